"""Outlines of domains: every spot is inside that of its domain, they fit without gaps and keep their holes."""

import numpy as np
import pandas as pd
import pytest
import shapely
from anndata import AnnData

import stmmr


def tissue(xy, domains, **obs):
    """Make data with domains at positions."""
    frame = pd.DataFrame({"domain": pd.Categorical(domains), **obs}, index=[f"s{i}" for i in range(len(xy))])
    return AnnData(obs=frame, obsm={"spatial": np.asarray(xy, dtype=float)})


def squares(side=8):
    """Make a square array whose left half is "a"."""
    row, col = (axis.ravel() for axis in np.mgrid[:side, :side])
    xy = np.column_stack([col, row]) * 100.0
    return tissue(xy, np.where(col < side // 2, "a", "b"), array_row=row, array_col=col)


def outlines(adata, **options):
    table = stmmr.tl.domain_outlines(adata, domain_key="domain", **options)
    return dict(zip(table["domain"], table["outline"], strict=True))


def test_halves_of_a_square_array_are_rectangles_that_share_a_border():
    drawn = outlines(squares())
    assert drawn["a"].area == pytest.approx(4 * 8 * 100**2, rel=0.12)  # rounded, 0.75 distances outside
    assert shapely.intersection(*drawn.values()).area == pytest.approx(0, abs=1e-6)
    assert shapely.distance(*drawn.values()) == 0
    assert drawn["a"].bounds[2] == pytest.approx(350, abs=0.02)


def test_every_cell_is_in_the_outline_of_its_domain_only():
    rng = np.random.default_rng(0)
    xy = rng.normal(size=(400, 2)) * 30
    adata = tissue(xy, rng.choice(list("abc"), 400))
    drawn = outlines(adata)
    for name, outline in drawn.items():
        assert outline.is_valid
        np.testing.assert_array_equal(shapely.contains_xy(outline, *xy.T), (adata.obs["domain"] == name).to_numpy())


def test_hole_is_kept_and_a_domain_in_two_parts_has_two():
    adata = squares(12)
    x, y = adata.obsm["spatial"].T
    inside = (abs(x - 550) < 300) & (abs(y - 550) < 300)
    adata.obs["domain"] = pd.Categorical(np.where((x < 200) | (x > 900), "edge", "middle"))
    drawn = outlines(adata[~inside].copy())
    assert len(drawn["middle"].interiors) == 1
    assert len(drawn["edge"].geoms) == 2


def test_sections_have_outlines_of_their_own():
    one = squares()
    both = tissue(
        np.vstack([one.obsm["spatial"], one.obsm["spatial"]]),
        [*one.obs["domain"], *one.obs["domain"]],
        sample=["x"] * 64 + ["y"] * 64,
    )
    table = stmmr.tl.domain_outlines(both, domain_key="domain", section_key="sample", reach=0.75)
    assert list(zip(table["section"], table["domain"], table["n_obs"], strict=True)) == [
        ("x", "a", 32), ("x", "b", 32), ("y", "a", 32), ("y", "b", 32)
    ]  # fmt: skip
    assert shapely.equals(table["outline"][0], table["outline"][2])


@pytest.mark.parametrize("xy", [[[5, 5]], [[0, 0], [0, 1]], [[0, 0], [1, 0], [2, 0], [2, 0]]])
def test_few_spots(xy):
    drawn = outlines(tissue(xy, ["a"] * (len(xy) - 1) + ["b"]), reach=1)
    assert drawn["b"].area > 0
    assert all(outline.is_valid for outline in drawn.values())


def test_area_in_mm2_and_missing_domains():
    adata = squares()
    adata.obs["domain"] = adata.obs["domain"].cat.remove_categories("b")
    adata.uns["spatial"] = {"s": {"scalefactors": {"microns_per_pixel": 0.5}}}
    table = stmmr.tl.domain_outlines(adata, domain_key="domain")
    assert list(table["domain"]) == ["a"]
    assert table["area_mm2"][0] == pytest.approx(table["outline"][0].area * 0.25e-6)
    adata.obs["domain"] = pd.Categorical([None] * adata.n_obs)
    with pytest.raises(stmmr.InputError, match="Expected domains in obs"):
        stmmr.tl.domain_outlines(adata, domain_key="domain")
