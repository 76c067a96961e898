import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stmmr
from stmmr import _keys, pl


@pytest.fixture
def sections():
    obs = pd.DataFrame(
        {
            "section": pd.Categorical(["b"] * 4 + ["a"] * 6, categories=["b", "a"]),
            _keys.DOMAIN: pd.Categorical(list("1112112222"), categories=["1", "2", "3"]),
        },
        index=[f"p{i}" for i in range(10)],
    )
    return ad.AnnData(np.zeros((10, 1)), obs=obs)


def test_bars_are_shares(sections):
    ax = pl.composition(sections, "section")
    widths = np.array([patch.get_width() for patch in ax.patches]).reshape(3, 2)
    np.testing.assert_allclose(widths, [[3 / 4, 1 / 3], [1 / 4, 2 / 3], [0, 0]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first section on top


def test_colors_are_those_of_the_domains(sections):
    ax = pl.composition(sections, "section")
    from stmmr.pl._palette import category_colors

    colors = category_colors(sections, _keys.DOMAIN, sections.obs[_keys.DOMAIN].cat.categories)
    np.testing.assert_allclose([ax.patches[at].get_facecolor() for at in (0, 2, 4)], colors)


def test_table_of_before(sections):
    with pytest.raises(stmmr.InputError, match="Give section_key"):
        pl.composition(sections)
    sections.uns[_keys.COMPOSITION] = stmmr.tl.composition(sections, "section")
    assert len(pl.composition(sections).patches) == 6
