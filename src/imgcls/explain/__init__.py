"""Which pixels a model's answer rests on: relevance maps, how far they can be trusted, and their pictures."""
