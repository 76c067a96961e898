"""One page about a run, to send to others: what was found, how sure it is, how it was done."""

from stmmr.report._write import write

__all__ = ["write"]
