"""The linear form of the model, found without training and without torch."""
