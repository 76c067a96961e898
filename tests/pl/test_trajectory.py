"""Pseudotime in the tissue, the graph over domains and the curves of genes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

import stmmr
from stmmr import InputError
from stmmr._core.categories import category_colors
from stmmr.pl._trajectory import layout, leading_trends

NAMES = ["White matter", "Layer 6", "Layer 5", "Layer 4"]


@pytest.fixture
def ordered(section):
    """The section with a pseudotime that ends before the last column, and a tree that forks."""
    section.obs["stmmr_pseudotime"] = np.where(np.arange(80) % 10 == 9, np.nan, np.arange(80) % 10 / 8)
    section.obs["layer"] = pd.Categorical(np.array(NAMES)[np.arange(80) % 10 // 3], categories=NAMES)
    weights = np.array([[0, 0.9, 0.4, 0.02], [0.9, 0, 0.5, 0.3], [0.4, 0.5, 0, 0], [0.02, 0.3, 0, 0]])
    tree = np.array([[0, 0.9, 0, 0], [0.9, 0, 0.5, 0.3], [0, 0.5, 0, 0], [0, 0.3, 0, 0]])
    genes = ["A", "B", "C"]
    curve = np.outer([1, 2, 3], np.linspace(1, 2, 100))
    section.uns["stmmr"] = {
        "trajectory": {
            "connectivities": weights,
            "tree": tree,
            "domains": np.array(NAMES),
            "domain_key": "layer",
            "root_domain": "White matter",
            "root_spot": "spot20",
        },
        "gene_trends": {
            "table": pd.DataFrame({"f": [3.0, 2, 1], "peak": [0.0, 0.5, 1.0]}, index=genes),
            "pseudotime": np.linspace(0, 1, 100),
            "curve": curve,
            "low": 0.9 * curve,
            "high": 1.1 * curve,
        },
    }
    return section


def test_pseudotime_in_the_tissue_marks_the_root(ordered):
    ax = stmmr.pl.trajectory(ordered)
    assert isinstance(ax, Axes)
    (star,) = [line for line in ax.lines if line.get_marker() == "*"]
    np.testing.assert_array_equal(star.get_xydata()[0], ordered.obsm["spatial"][20])
    assert ax.child_axes[0].get_title(loc="left") == "Pseudotime"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["missing"]


def test_pseudotime_without_a_noted_root(ordered):
    del ordered.uns["stmmr"]
    assert not stmmr.pl.trajectory(ordered).lines


def test_domains_have_the_colours_they_have_everywhere(ordered):
    ax = stmmr.pl.paga(ordered)
    np.testing.assert_array_equal(
        ax.collections[0].get_facecolors(), category_colors(ordered, "layer", pd.Index(NAMES))
    )
    ordered.uns["layer_colors"] = ["red", "blue", "black", "#00FF00"]
    ax = stmmr.pl.paga(ordered)
    np.testing.assert_array_equal(ax.collections[0].get_facecolors()[1], [0, 0, 1, 1])


def test_tree_from_the_root_to_the_right_and_weak_links_left_out(ordered):
    ax = stmmr.pl.paga(ordered)
    at = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_array_equal(at[:, 0], [0, 1, 2, 2])
    links = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert len(links) == 4
    widest = max(link.get_linewidth() for link in links)
    assert widest == pytest.approx(4.5 * 0.7)  # with text of 7 points
    assert len([p for p in stmmr.pl.paga(ordered, threshold=0.01).patches if isinstance(p, FancyArrowPatch)]) == 5


def test_no_label_lies_on_another(ordered):
    ax = stmmr.pl.paga(ordered)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("seed", range(5))
def test_layout_gives_each_node_a_spot_of_its_own(seed):
    rng = np.random.default_rng(seed)
    tree = np.zeros((12, 12))
    for node in range(1, 12):
        if node != 7:  # begins a tree of its own
            parent = rng.integers(node)
            tree[node, parent] = tree[parent, node] = 1
    at = layout(tree, 3, rng.integers(1, 50, 12))
    assert np.isfinite(at).all()
    assert len(np.unique(at, axis=0)) == 12
    assert at[3, 0] == 0


def test_short_branches_share_a_row():
    tree = np.zeros((7, 7))
    for one, other in ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (2, 6)):
        tree[one, other] = tree[other, one] = 1
    at = layout(tree, 0, np.array([9, 8, 7, 6, 5, 1, 1]))
    np.testing.assert_array_equal(at, [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0], [1, -1], [3, -1]])


def test_curves_with_bands(ordered):
    ax = stmmr.pl.gene_trends(ordered)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["A", "B", "C"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), np.log1p(np.linspace(2, 4, 100)))
    assert len(ax.collections) == 3
    ax = stmmr.pl.gene_trends(ordered, genes=["C"], ax=plt.subplots()[1])
    assert len(ax.lines) == 1


def test_genes_that_peak_early_midway_and_late():
    peak = pd.Series([0.1, 0.2, 0.0, 1.0, 0.15, 0.5], index=list("ABCDEF"))  # the surest first
    assert leading_trends(peak.to_frame("peak")) == ["A", "B", "F", "D"]


def test_draws_on_given_axes(ordered):
    for draw in (stmmr.pl.trajectory, stmmr.pl.paga, stmmr.pl.gene_trends):
        ax = plt.subplots()[1]
        assert draw(ordered, ax=ax) is ax


def test_bad_input(ordered, section):
    with pytest.raises(InputError, match=r"key 'AA' in the table of gene trends.*Did you mean 'A'"):
        stmmr.pl.gene_trends(ordered, genes=["AA"])
    with pytest.raises(InputError, match="Expected a list of gene names, found 'A'"):
        stmmr.pl.gene_trends(ordered, genes="A")
    with pytest.raises(InputError, match=r"Expected a list of gene names, found \[\]"):
        stmmr.pl.gene_trends(ordered, genes=[])
    ordered.obs["layer"] = ordered.obs["layer"].cat.rename_categories({"Layer 4": "IV"})
    with pytest.raises(InputError, match="found none of 'Layer 4'"):
        stmmr.pl.paga(ordered)
    del ordered.uns["stmmr"], ordered.obs["stmmr_pseudotime"]
    with pytest.raises(InputError, match=r"stmmr.tl.trajectory\(adata\) first"):
        stmmr.pl.paga(ordered)
    with pytest.raises(InputError, match=r"stmmr.tl.trajectory\(adata\) first"):
        stmmr.pl.trajectory(ordered)
    with pytest.raises(InputError, match=r"stmmr.tl.gene_trends\(adata\) first"):
        stmmr.pl.gene_trends(ordered)
