"""The linear embedding of the default preset, computed without training and without PyTorch."""
