"""What to do about classes of different size: samplers and class weights."""
