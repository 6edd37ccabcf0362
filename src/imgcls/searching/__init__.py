"""What a search does with a Trainer: variants of it, their trials, their comparison, tables and pictures."""
