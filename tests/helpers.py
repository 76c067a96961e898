"""What tests of several files share."""

import numpy as np
import pytest

from stmmr import cli


def run_main(*arguments):
    """Run the command in this process; return its exit status."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(map(str, arguments)))
    return end.value.code


def contents(folder):
    """Get the content of each file in a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def negative(adata):
    adata.X = adata.X.toarray() - 1.0


def normalised(adata):
    adata.X = adata.X * 0.37


def with_nan(adata):
    adata.X.data[0] = np.nan


def without_coordinates(adata):
    del adata.obsm["spatial"]
    adata.obs = adata.obs[["ground_truth"]]


def nan_coordinates(adata):
    adata.obsm["spatial"][0] = np.nan


def one_point(adata):
    adata.obsm["spatial"][:] = 1.0


BAD_DATA = [
    (negative, "negative values.*use_rep"),
    (normalised, "look normalised.*layer=.*use_rep"),
    (with_nan, "1 NaN or infinite"),
    (without_coordinates, "Expected coordinates in obsm"),
    (nan_coordinates, "1 of .* without"),
    (one_point, "all .* at one point"),
]
"""What spoils a data set, and the message of a run."""
