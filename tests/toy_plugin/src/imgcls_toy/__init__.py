"""The smallest useful plugins for imgcls."""
