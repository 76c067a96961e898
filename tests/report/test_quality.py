"""Each check warns on data made to fail it, and on no others."""

import numpy as np
import pandas as pd
import pytest

from stmmr.report._quality import checks_of

from .conftest import made_section
from .test_page import GRAPH


def warned(adata):
    return {check.title for check in checks_of(adata) if check.state == "warning"}


def good():
    adata = made_section()
    adata.obs["stmmr_library_size"] = 1000.0
    adata.obs["stmmr_patch"] = pd.Categorical(["tissue"] * 400, ["tissue", "blurred"])
    tried = np.array([20.0, 40.0, 80.0])
    adata.uns["stmmr"] |= {
        "spatial_graph": GRAPH | {"bandwidths_tried": tried, "error": tried, "bandwidth_best": 1.0},
        "histology": {"on_tissue": 0.99},
        "consensus": {"agreement": 0.9},
        "number_of_domains": {"chosen": 3, "lowest": 3, "highest": 4, "tried": np.arange(1, 9)},
        "refine": {"stmmr_domain_refined": {"changed": 0.01}},
        "history": {"loss": np.array([2.0, 1.0])},
    }
    return adata


def few_counts(adata):
    adata.obs.iloc[:40, adata.obs.columns.get_loc("stmmr_library_size")] = 5.0


def small_libraries(adata):
    adata.obs["stmmr_library_size"] = 50.0


def off_tissue(adata):
    adata.uns["stmmr"]["histology"] = {"on_tissue": 0.8}


def blurred(adata):
    adata.obs["stmmr_patch"] = pd.Categorical(["blurred"] * 40 + ["tissue"] * 360, ["tissue", "blurred"])


def unlike(adata):
    adata.uns["stmmr"]["consensus"] = {"agreement": 0.5}


def unsure(adata):
    adata.obs["stmmr_confidence"] = np.where(np.arange(400) < 100, 0.3, 0.9)


def at_the_limit(adata):
    adata.uns["stmmr"]["number_of_domains"] = {"chosen": 8, "lowest": 7, "highest": 8, "tried": np.arange(1, 9)}


def at_the_end(adata):
    adata.uns["stmmr"]["spatial_graph"] = adata.uns["stmmr"]["spatial_graph"] | {"bandwidth": 80.0}


def small(adata):
    adata.obs["stmmr_domain"] = pd.Categorical(["1"] * 397 + ["2"] * 3)


def in_one_section(adata):
    adata.obs["slide"] = np.where(adata.obs["stmmr_domain"] == "3", "b", "a")
    adata.uns["stmmr"]["spatial_graph"] = adata.uns["stmmr"]["spatial_graph"] | {"section_key": "slide"}


def changed(adata):
    adata.uns["stmmr"]["refine"] = {"stmmr_domain_refined": {"changed": 0.3}}


def rising(adata):
    adata.uns["stmmr"]["history"] = {"loss": np.array([1.0, np.nan])}


def test_good_data_pass():
    assert warned(good()) == set()
    assert len(checks_of(good())) == 11


@pytest.mark.parametrize(
    ("spoil", "title"),
    [
        (few_counts, "Cells with few counts"),
        (small_libraries, "Counts per cell"),
        (off_tissue, "Cells on tissue in the image"),
        (blurred, "Patches without sharp tissue"),
        (unlike, "Agreement of partitions"),
        (unsure, "Cells with an uncertain domain"),
        (at_the_limit, "Number of domains"),
        (at_the_end, "Bandwidth of the graph"),
        (small, "Small domains"),
        (in_one_section, "Domains in one section only"),
        (changed, "Changed by the vote of neighbours"),
        (rising, "Training"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_check_warns_alone(spoil, title):
    adata = good()
    spoil(adata)
    assert warned(adata) == {title}
    assert checks_of(adata)[0].title == title


def test_nothing_known_is_nothing_said():
    adata = made_section(genes=())
    adata.uns.clear()
    del adata.obs["stmmr_confidence"]
    assert {check.title for check in checks_of(adata)} == {"Small domains"}
