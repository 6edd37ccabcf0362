"""Augmentation: a table of chance, and pure functions of (batch, rows) that change images, masks and targets."""
