"""The embedding in two dimensions: what stands on the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from stmmr import InputError
from stmmr._core.categories import PALETTE
from stmmr.pl import embedding


def test_every_spot_once_in_the_colour_of_its_domain(section):
    ax = embedding(section)
    (points,) = ax.collections
    drawn = np.column_stack([points.get_offsets(), points.get_facecolors()[:, :3]])
    colors = [to_rgb(PALETTE[int(name) - 1]) for name in section.obs["stmmr_domain"]]
    expected = np.column_stack([section.obsm["X_stmmr_umap"], colors])
    np.testing.assert_allclose(drawn[drawn[:, 0].argsort()], expected[expected[:, 0].argsort()], rtol=1e-6)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1", "2", "3"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP 1", "UMAP 2")
    ax.figure.canvas.draw()


def test_other_basis_column_and_axes(section):
    section.obsm["X_pca"] = np.eye(80)
    section.obs["sample"] = "one"
    _, given = plt.subplots()
    ax = embedding(section, basis="X_pca", color="sample", ax=given)
    assert ax is given
    assert ax.get_xlabel() == "pca 1"
    assert ax.get_legend().get_title().get_text() == "sample"


def test_spots_without_a_position_are_left_out_and_the_figure_says_so(section):
    section.obsm["X_stmmr_umap"][::4] = np.nan
    ax = embedding(section)
    (points,) = ax.collections
    known = np.isfinite(section.obsm["X_stmmr_umap"]).all(axis=1)
    drawn = np.sort(np.asarray(points.get_offsets()), axis=0)
    np.testing.assert_allclose(drawn, np.sort(section.obsm["X_stmmr_umap"][known], axis=0), rtol=1e-6)
    assert ax.get_title(loc="left") == "random sample of 60 of 80 cells"
    section.obsm["X_stmmr_umap"][::4] = 0
    assert not embedding(section).get_title(loc="left")


def test_errors_name_what_is_there(section):
    with pytest.raises(InputError, match=r"'X_umap' in obsm.*X_stmmr_umap.*tl\.umap"):
        embedding(section, basis="X_umap")
    with pytest.raises(InputError, match=r"'domain' in obs"):
        embedding(section, color="domain")
    section.obsm["thin"] = np.ones((80, 1))
    with pytest.raises(InputError, match=r"two columns, found shape \(80, 1\)"):
        embedding(section, basis="thin")
    section.obsm["empty"] = np.full((80, 2), np.nan)
    with pytest.raises(InputError, match=r"finite positions in obsm\['empty'\], found none"):
        embedding(section, basis="empty")
