"""From an image file to patches: images of any size, their registration, tissue and stains."""
