"""Reading what vendors and other packages write into AnnData."""

from stmmr.io._mudata import from_mudata, read_h5mu
from stmmr.io._read import Recognised, read, recognise
from stmmr.io._tables import read_h5ad, read_zarr
from stmmr.io._visium import read_visium, read_visium_hd

__all__ = [
    "Recognised",
    "from_mudata",
    "read",
    "read_h5ad",
    "read_h5mu",
    "read_visium",
    "read_visium_hd",
    "read_zarr",
    "recognise",
]
