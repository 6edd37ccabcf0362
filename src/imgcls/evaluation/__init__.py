"""Predictions, metrics with intervals, thresholds and errors; loads without torch."""
