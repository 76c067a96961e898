"""Report: one HTML page about a run, with results, confidence and methods."""

from stmmr.report._write import write
from stmmr.report.tiles import write_tiles

__all__ = ["write", "write_tiles"]
