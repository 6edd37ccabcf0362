"""Where and how networks run: device, precision, batches and checkpoints."""
