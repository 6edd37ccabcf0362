"""The HTML page of a run; nothing here loads torch."""
