"""What a trained run does with images: predict and explain."""
