"""Domains in words, with what an annotation, the genes and the map say about them."""

import numpy as np
import pandas as pd

from stmmr.report._alternatives import panels_of
from stmmr.report._annotations import annotation_keys, like_of
from stmmr.report._domains import domains_of
from stmmr.report._scene import number_positions, scene_of

from .conftest import add_findings, made_section


def annotated(labels, name="cell_type"):
    adata = made_section(400)
    adata.obs[name] = pd.Categorical(labels)
    return adata


def test_a_label_names_the_domain_that_it_fills():
    codes = made_section(400).obs["stmmr_domain"].cat.codes.to_numpy()
    adata = annotated(np.where(codes == 0, "White_matter", np.where(codes == 1, "Unknown", None)))
    first, second, third = domains_of(adata)
    assert (first.like, second.like, third.like) == ("White matter-like", "", "")
    assert first.labels[0][1][0][:2] == ("White_matter", 1.0)
    assert third.labels == [("cell_type", [])]


def test_a_label_that_is_everywhere_names_none():
    column = pd.Categorical(["tumour"] * 95 + ["stroma"] * 5)
    inside = np.arange(100) < 50
    assert like_of(inside, column) == ""
    few = pd.Categorical.from_codes(np.where(np.arange(100) < 10, 0, -1), ["a"])
    assert like_of(inside, few) == ""  # most of the domain is not annotated


def test_annotations_are_names_of_spots_and_each_partition_comes_once():
    adata = annotated(np.arange(400) % 4, "ground_truth")
    adata.obs["region"] = (np.arange(400) % 4).astype(str)
    adata.obs["cell_type"] = pd.Categorical((np.arange(400) % 3).astype(str))
    adata.obs["layer_id"] = "one"
    adata.obs["celltype_name"] = np.arange(400).astype(str)
    adata.obs["label_score"] = np.linspace(0, 1, 400)
    assert annotation_keys(adata) == ["ground_truth", "cell_type"]
    adata.obs["stmmr_domain"] = adata.obs["cell_type"]
    assert annotation_keys(adata) == ["ground_truth"]


def test_a_paragraph_names_size_genes_and_borders():
    adata = made_section(400)
    add_findings(adata)
    first, second, _ = domains_of(adata)
    n = (adata.obs["stmmr_domain"] == "1").sum()
    assert first.text("spots").startswith(
        f"Domain 1 has {n} spots, {100 * n / 400:.1f}\N{NO-BREAK SPACE}% of all, with a mean confidence"
    )
    assert [part.name for part in first.borders] == ["2"]
    assert [part.name for part in second.borders] == ["1", "3"]
    assert sum(part.share for part in second.borders) == 1


def test_names_are_written_amid_their_domain():
    adata = made_section(400)
    codes = adata.obs["stmmr_domain"].cat.codes.to_numpy()
    xy, written = adata.obsm["spatial"], number_positions(scene_of(adata), codes)
    assert [code for code, _, _ in written] == [0, 1, 2]
    for code, x, y in written:
        own = xy[codes == code]
        assert abs(x - own[:, 0].mean()) <= 50  # away from other domains, and from the edge of the tissue
        assert 100 <= y <= 850


def test_a_single_spot_has_no_borders():
    (only,) = domains_of(made_section(1, n_domains=1))
    assert only.borders == []


def test_each_map_is_side_by_side_once():
    adata = annotated(["a"] * 200 + ["b"] * 200)
    adata.obs["stmmr_alternative"] = adata.obs["stmmr_domain"]
    assert [key for key, _ in panels_of(adata, None)] == ["cell_type", "stmmr_alternative", "stmmr_domain"]
