"""From a set to folds: groups whole, classes in proportion."""
