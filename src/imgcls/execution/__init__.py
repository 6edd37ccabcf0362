"""Folds and trials side by side: tasks, their results, and what runs them."""
