"""Trackers: where the values of a run go while it trains."""
