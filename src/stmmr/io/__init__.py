"""Read the output of spatial platforms and other packages into AnnData.

The rows of the result are spots, cells or bins, as the platform has them. Readers raise FileNotFoundError if the path
does not exist, and `stmmr.InputError`, with advice, if its content cannot be used.
"""

from stmmr._core.renamed import former_names
from stmmr.io._cosmx import read_cosmx
from stmmr.io._merscope import read_merscope
from stmmr.io._mudata import from_mudata, read_h5mu
from stmmr.io._plain import read_table
from stmmr.io._read import Recognised, read, recognise
from stmmr.io._segmented import read_visium_hd_cells
from stmmr.io._seqfish import read_seqfish
from stmmr.io._slideseq import read_slideseq
from stmmr.io._spatialdata import from_spatialdata, image_of
from stmmr.io._spatialdata_write import to_spatialdata
from stmmr.io._st import read_st
from stmmr.io._stereoseq import read_stereoseq
from stmmr.io._tables import read_h5ad, read_zarr
from stmmr.io._tenx import read_10x_h5
from stmmr.io._transcripts import read_transcripts
from stmmr.io._visium import read_visium, read_visium_hd
from stmmr.io._xenium import read_xenium

__all__ = [
    "Recognised",
    "from_mudata",
    "from_spatialdata",
    "image_of",
    "read",
    "read_10x_h5",
    "read_cosmx",
    "read_h5ad",
    "read_h5mu",
    "read_merscope",
    "read_seqfish",
    "read_slideseq",
    "read_st",
    "read_stereoseq",
    "read_table",
    "read_transcripts",
    "read_visium",
    "read_visium_hd",
    "read_visium_hd_cells",
    "read_xenium",
    "read_zarr",
    "recognise",
    "to_spatialdata",
]

__getattr__ = former_names(__name__, picture_of=image_of)
