"""Reading what vendors and other packages write into AnnData."""

from stmmr.io._read import Recognised, read, recognise
from stmmr.io._spatialdata import from_spatialdata, picture_of
from stmmr.io._spatialdata_write import to_spatialdata
from stmmr.io._tables import read_h5ad, read_zarr
from stmmr.io._visium import read_visium, read_visium_hd

__all__ = [
    "Recognised",
    "from_spatialdata",
    "picture_of",
    "read",
    "read_h5ad",
    "read_visium",
    "read_visium_hd",
    "read_zarr",
    "recognise",
    "to_spatialdata",
]
