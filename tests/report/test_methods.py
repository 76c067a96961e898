"""The methods say what ran, cite it, and nothing else."""

import re

import pytest

import stmmr
from stmmr.report._methods import methods_of
from stmmr.report._references import WORKS

from .conftest import made_section


@pytest.fixture(scope="module")
def done():
    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=3, n_genes=60)
    stmmr.run(adata, progress=False)
    return adata


def test_numbers_are_those_of_the_run(done):
    text, _ = methods_of(done)
    steps = done.uns["stmmr"]
    um = steps["spatial_graph"]["bandwidth"] * steps["spatial_graph"]["um_per_unit"]
    assert f"bandwidth of {um:.3g} µm" in text
    assert f"The number of domains, {steps['number_of_domains']['chosen']}," in text
    assert f"of {steps['consensus']['agreement']:.2f}" in text
    assert f"weight {steps['model']['histology_weight_used']:.2f}" in text
    assert "60 genes seen in" in text
    for absent in ("pseudotime", "UMAP", "annotation", "SpaGCN", "Macenko"):
        assert absent not in text


def test_references_are_numbered_as_cited(done):
    text, cited = methods_of(done)
    numbers = [int(n) for group in re.findall(r"\[([\d, ]+)\]", text) for n in group.split(", ")]
    assert list(dict.fromkeys(numbers)) == list(range(1, len(cited.works) + 1))
    assert cited.keys[0] == "stmmr"


def test_steps_that_were_left_out_are_not_told():
    adata = made_section(genes=())
    del adata.obsm["X_stmmr_umap"]
    adata.uns["stmmr"] = {"model": {**MODEL, "use_rep": "X_scVI"}}
    text, cited = methods_of(adata)
    assert "represented by X_scVI" in text
    assert "H&E" not in text
    assert cited.keys == ["stmmr", "anndata"]


MODEL = {
    "preset": "paper",
    "use_histology": False,
    "latent": 3000,
    "likelihood": "zinb",
    "random_state": 0,
    "use_rep": "",
    "blocks": {},
}


@pytest.mark.parametrize("key", WORKS)
def test_bibtex_is_balanced(key):
    entry = WORKS[key].bibtex
    assert entry.count("{") == entry.count("}")
    assert entry.startswith(("@article{", "@inproceedings{"))
    assert "et al" not in entry
    assert re.search(r"(doi = \{10\.\d{4,}/|url = \{https://)", entry)
