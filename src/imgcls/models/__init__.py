"""Networks: a backbone that turns images into features, and a head that turns these into logits."""
