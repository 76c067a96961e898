"""Data and notes that once ended in a traceback: each works, or is one sentence, before the first long step."""

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import stmmr
from stmmr._core.categories import hex_colors
from stmmr._core.compat import layers_of

QUICK = {"n_domains": 2, "method": "kmeans", "histology": False, "progress": False}


@pytest.fixture
def tissue():
    return stmmr.datasets.simulated_tissue(n_rows=8, n_cols=8, n_domains=2, n_genes=15)


@pytest.mark.parametrize("dtype", ["f2", ">i4", ">f8", "u1", "?"])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_counts_of_any_number_type_give_the_same_domains(tissue, dtype, as_sparse):
    for name in [*layers_of(tissue)]:
        del tissue.layers[name]
    if dtype == "?":
        dense = tissue.X.toarray()
        tissue.X = sparse.csr_matrix((dense > np.median(dense, axis=0)).astype(np.float32))
    tissue.X = tissue.X.minimum(200)
    other = tissue.copy()
    if as_sparse:
        other.X = other.X.copy()
        other.X.data = other.X.data.astype(dtype)  # scipy itself refuses to make some of them
    else:
        other.X = other.X.toarray().astype(dtype)
    for adata in (tissue, other):
        stmmr.run(adata, **QUICK)
    assert list(tissue.obs["stmmr_domain"]) == list(other.obs["stmmr_domain"])


def _zeros(adata):
    adata.X = adata.X * 0
    adata.obs["size"] = 5.0
    return {"size_key": "size"}


def _enormous(adata):
    adata.X = adata.X.toarray() * 0 + np.float32(3e38)


def _texts(adata):
    adata.X = adata.X.toarray().astype(int).astype(str).astype(object)


def _complex(adata):
    adata.X = adata.X.toarray().astype(complex)


def _text_notes(adata):
    adata.uns["stmmr"] = "text"


def _other_notes(adata):
    adata.uns["stmmr"] = {"model": 3}


def _far(adata):
    adata.obsm["spatial"] = adata.obsm["spatial"] * 1e200


def _blocks(adata):
    return {"blocks": 3}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_zeros, "found only zeros"),
        (_enormous, r"values up to 3e\+38"),
        (_texts, "found values of the type object"),
        (_complex, "found values of the type complex128"),
        (_text_notes, r"uns\['stmmr'\], found something else"),
        (_other_notes, r"uns\['stmmr'\]\['model'\], found something else"),
        (_far, "Expected finite coordinates"),
        (_blocks, "list of texts NAME=KEY, found 3"),
        (lambda adata: {"n_domains": 3.5}, r"whole number or 'auto', found 3\.5"),
        (lambda adata: {"label_key": 3}, "Expected label_key to be a name, found 3"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tissue, change, found):
    for layer in layers_of(tissue):
        del tissue.layers[layer]
    options = change(tissue)
    with pytest.raises(stmmr.InputError, match=found):
        stmmr.run(tissue, **(QUICK | (options or {})))


@pytest.mark.parametrize("n", [1, 12])
def test_few_spots_are_refused_before_the_first_step(tissue, n, caplog):
    with pytest.raises(stmmr.InputError, match=f"at least 13 spots, found {n}"):
        stmmr.run(tissue[:n].copy(), n_domains="auto" if n > 1 else 1)
    assert "expression" not in caplog.text


def test_a_part_of_data_on_disk_is_refused_with_advice(tissue, tmp_path):
    tissue.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(stmmr.InputError, match=r"adata = adata\[…\]\.to_memory\(\)"):
        stmmr.run(ad.read_h5ad(tmp_path / "a.h5ad", backed="r")[:30], **QUICK)


@pytest.mark.parametrize("backed", [True, False])
@pytest.mark.parametrize(
    ("array", "position", "value"),
    [("indices", 3, -1), ("indices", 3, 10**6), ("indptr", -1, -1), ("indptr", 2, 0), ("indptr", -1, 10**9)],
)
def test_damaged_indices_are_refused(tissue, tmp_path, array, position, value, backed):
    tissue.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        file[f"X/{array}"][position] = value
    with pytest.raises(stmmr.InputError):
        stmmr.run(stmmr.read(tmp_path / "a.h5ad", backed=backed), **QUICK)


@pytest.mark.parametrize(
    ("colours", "used"),
    [
        ({"1": "red", "2": "#00ff00"}, True),
        (["red", "#00ff00"], True),
        ({"1": "red"}, False),
        ("red", False),
        (["red"], False),
        (["no colour", "red"], False),
        (3, False),
    ],
)
def test_colours_in_any_form(tissue, colours, used):
    stmmr.run(tissue, **QUICK)
    tissue.uns["stmmr_domain_colors"] = colours
    found = hex_colors(tissue, "stmmr_domain", pd.Index(["1", "2"]))
    assert (found == ["#ff0000", "#00ff00"]) == used
    stmmr.pl.domains(tissue)


def test_numbers_as_names_of_domains(tissue):
    stmmr.run(tissue, **QUICK)
    tissue.obs["stmmr_domain"] = tissue.obs["stmmr_domain"].astype(int)
    stmmr.analyse(tissue, genes=True, trajectory=True, root_domain=1, progress=False)
    assert set(tissue.uns["stmmr_domain_genes"]["domain"].astype(str)) == {"1", "2"}


def test_a_missing_note_names_the_function_to_run(tissue):
    stmmr.run(tissue, **QUICK)
    tissue.uns["stmmr"] = {**tissue.uns["stmmr"], "domain_tree": {}}
    with pytest.raises(stmmr.InputError, match=r"Run .*domain_tree\(adata\)"):
        stmmr.pl.domain_tree(tissue)
