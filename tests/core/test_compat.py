"""Names and layers as every version of anndata takes them."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmmr._core import keys
from stmmr._core.compat import escaped, layers_of, libraries_of, names_in, unescaped
from stmmr._core.record import record, recorded
from stmmr.io import read_h5ad, read_zarr
from stmmr.io._tables import write_beside_counts, write_h5ad

NAME = "T/NK"


@pytest.fixture
def adata():
    """Names with a slash wherever a file can bring them or a user can give them."""
    adata = ad.AnnData(
        np.ones((3, 2), np.float32),
        obs=pd.DataFrame({NAME: [1.0, 2.0, 3.0], "%2F": list("aba")}, index=pd.Index(list("xyz"), name="cell/id")),
        var=pd.DataFrame({"a/b": [0, 1]}, index=["CCL3/L1", "B"]),
        layers={"counts": np.zeros((3, 2))},
        obsm={"tags": pd.DataFrame({"CD45/RA": [1, 2, 3]}, index=list("xyz"))},
        uns={keys.SPATIAL: {"P/1": {"images": {}, "scalefactors": {"spot_diameter_fullres": 2.0}}}},
    )
    record(adata, refine={NAME: {"n_neighbors": 6, "table": pd.DataFrame({"x/y": [1]}, index=["0"])}})
    return adata


@given(st.text(st.sampled_from("%25F/a"), max_size=12))
def test_escaping_is_undone(name):
    assert "/" not in escaped(name)
    assert unescaped(escaped(name)) == name


def test_layers_are_without_x(adata):
    for one in (adata, adata[:2]):
        assert names_in(one.layers) == ["counts"]
        layers = layers_of(one)
        assert list(layers) == ["counts"]
        np.testing.assert_array_equal(layers["counts"], np.zeros(one.shape))


def _names(adata):
    return {
        "obs": list(adata.obs),
        "index": adata.obs.index.name,
        "var": list(adata.var),
        "genes": list(adata.var_names),
        "tags": list(adata.obsm["tags"]),
        "libraries": list(adata.uns[keys.SPATIAL]),
        "record": recorded(adata)["refine"][NAME]["n_neighbors"],
        "table": list(recorded(adata)["refine"][NAME]["table"]),
    }


def test_names_come_back_from_h5ad(adata, tmp_path):
    before = _names(adata)
    write_h5ad(adata, tmp_path / "a.h5ad")
    assert _names(adata) == before  # what is written stays as it is
    for backed in (False, True):
        assert _names(read_h5ad(tmp_path / "a.h5ad", backed=backed)) == before


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_names_come_back_from_beside_the_counts(adata, tmp_path, kind):
    source, target = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    plain = ad.AnnData(adata.X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the writers announce changes of their defaults
        plain.write_h5ad(source) if kind == "h5ad" else plain.write_zarr(source)
    if kind == "zarr":
        target.mkdir()
    write_beside_counts(adata, source, target)
    assert _names((read_h5ad if kind == "h5ad" else read_zarr)(target)) == _names(adata)


def test_what_anndata_reads_is_understood(adata, tmp_path):
    write_h5ad(adata, tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    assert list(libraries_of(read)) == ["P/1"]
    assert recorded(read)["refine"][NAME]["n_neighbors"] == 6
    assert list(read.obs) == ["T%2FNK", "%252F"]


def test_the_record_does_not_keep_anndata_from_writing(adata, tmp_path):
    adata = ad.AnnData(adata.X, uns={keys.UNS: adata.uns[keys.UNS]})
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert recorded(ad.read_h5ad(tmp_path / "a.h5ad"))["refine"][NAME]["n_neighbors"] == 6
    assert list(recorded(adata)["refine"]) == [NAME]


def test_files_of_others_are_left_as_they_are(adata, tmp_path):
    other = ad.AnnData(adata.X, obs=pd.DataFrame({"50%2F": [1, 2, 3]}, index=list("xyz")))
    other.write_h5ad(tmp_path / "a.h5ad")
    assert list(read_h5ad(tmp_path / "a.h5ad").obs) == ["50%2F"]
