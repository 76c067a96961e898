"""The linear line, the baseline of every table: A·A·PCs, whitened, k-means, tied Gaussian mixture."""

from stmmr.reproduce._line import linear_line

__all__ = ["linear_line"]
