"""Records, folds, decoding and the decoded store; nothing here loads torch."""
