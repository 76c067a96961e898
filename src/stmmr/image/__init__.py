"""From a file to a patch: pictures of any size, their registration, tissue, stain."""
