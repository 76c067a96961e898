"""Report: one HTML page about a run, with results, confidence and methods."""

from stmmr.report._write import write

__all__ = ["write"]
