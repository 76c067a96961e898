"""Sections that come one by one become one table, and what cannot be put together is said."""

import logging

import numpy as np
import pytest

import stmmr
from stmmr import InputError
from stmmr._core import keys
from stmmr.pipeline.analyses import ANALYSES
from stmmr.pp import concat_sections


def section(seed=0, *, names=None, **options):
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=30, random_state=seed, **options)
    if names is not None:
        adata.var_names = names(adata.var_names)
    return adata


def test_one_table_with_names_pictures_and_all_spots(caplog):
    first, second = section(0), section(1)
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        both = concat_sections({"b": first, "a": second})
    assert list(both.obs["section"].cat.categories) == ["b", "a"]
    assert both.obs_names.is_unique
    assert both.obs_names[0] == f"{first.obs_names[0]}-b"
    assert "names of spots, such as spot_" in caplog.text
    assert set(both.uns["spatial"]) == {"b", "a"}
    picture = both.uns["spatial"]["a"]["images"]["hires"]
    np.testing.assert_array_equal(picture, second.uns["spatial"]["simulated"]["images"]["hires"])
    own = (both.obs["section"] == "a").to_numpy()
    assert (both.X[own] != second.X).nnz == 0
    np.testing.assert_allclose(both.obsm["spatial"][own], second.obsm["spatial"])
    assert "section" not in second.obs
    assert set(second.uns["spatial"]) == {"simulated"}


def test_names_that_differ_stay(caplog):
    first, second = section(0), section(1)
    second.obs_names = [f"other_{name}" for name in second.obs_names]
    both = concat_sections([first, second], section_key="slide")
    assert list(both.obs_names) == [*first.obs_names, *second.obs_names]
    assert list(both.obs["slide"].cat.categories) == ["1", "2"]
    assert not caplog.text


def test_units_become_those_of_the_first_section():
    first, second = section(0), section(1)
    second.obsm["spatial"] = second.obsm["spatial"] / 2
    factors = second.uns["spatial"]["simulated"]["scalefactors"]
    factors.update(microns_per_pixel=1.0, tissue_hires_scalef=0.25, spot_diameter_fullres=55.0)
    both = concat_sections({"a": first, "b": second})
    own = (both.obs["section"] == "b").to_numpy()
    np.testing.assert_allclose(both.obsm["spatial"][own], 2 * second.obsm["spatial"])
    # pixels of a picture in full, as it comes with the second section, per unit of the coordinates
    assert both.uns["spatial"]["b"]["scalefactors"].pop("tissue_fullres_scalef") == pytest.approx(0.5)
    for library in both.uns["spatial"].values():
        expected = {"tissue_hires_scalef": 0.125, "spot_diameter_fullres": 110.0, "microns_per_pixel": 0.5}
        assert library["scalefactors"] == pytest.approx(expected)


def test_genes_of_one_section_count_as_none_in_another():
    first, second = section(0), section(1)[:, 10:].copy()
    first.X = first.X.toarray()
    assert concat_sections([first, second]).n_vars == 20
    every = concat_sections([first, second], join="outer")
    assert every.n_vars == 30
    missing = every[every.obs["section"] == "2", first.var_names[:10]].X
    assert missing.sum() == 0


def test_results_of_single_runs_stay_behind():
    first, second = section(0), section(1)
    of_run = [*keys.KEYS, *(key for analysis in ANALYSES for key in analysis.keys)]
    columns = {key.name for key in of_run if key.container == "obs"}
    matrices = {key.name for key in of_run if key.container == "obsm"}
    for part in (first, second):
        part.obs[[*columns, "mine"]] = "1"
        part.obsm.update({name: np.ones((part.n_obs, 2)) for name in [*matrices, "X_mine"]})
    both = concat_sections([first, second], join="outer")
    # what the image shows around a spot does not depend on other sections; components of its features do
    assert (columns | {"mine"}) & set(both.obs) == {keys.PATCH, "mine"}
    assert set(both.obsm) == {keys.SPATIAL, "X_mine"}


def test_what_only_some_sections_have_is_left_out_and_said(caplog):
    """Counts of one section only, filled with 0 in the other, would be read as counts of both."""
    first, second = section(0), section(1)
    first.layers["counts"] = first.X.copy()
    first.obsm["features"], second.obsm["features"] = np.ones((first.n_obs, 5)), np.ones((second.n_obs, 9))
    first.obsm["own"] = np.ones((first.n_obs, 2))
    for join in ("inner", "outer"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="stmmr"):
            both = concat_sections([first, second], join=join)
        assert not both.layers
        assert list(both.obsm) == ["spatial"]
        for left_out in ("layers['counts']", "obsm['features']", "obsm['own']"):
            assert f"{left_out} is left out: some sections lack it" in caplog.text
    assert set(first.obsm) == {"spatial", "features", "own"}


def test_genes_of_one_name_are_told_apart(caplog):
    twice = section(1, names=lambda names: [names[0], names[0], *names[2:]])
    both = concat_sections([section(0), twice])
    assert both.n_vars == 29
    assert "1 gene names occur more than once" in caplog.text


def ensembl(names, code="", first=100):
    return [f"ENS{code}G{first + at:011d}" for at in range(len(names))]


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (list, ensembl, "Ensembl identifiers and the other symbols"),
        (ensembl, lambda names: ensembl(names, "MUS"), "of different species"),
        (ensembl, lambda names: [f"{name}.3" for name in ensembl(names)], "version after the dot. Remove it"),
        (list, lambda names: names.str.capitalize(), "upper and lower case, as those of human and mouse do"),
        (list, lambda names: [f"x{name}" for name in names], "Use the same gene names in all sections"),
    ],
)
def test_disjoint_genes_are_refused_with_the_likely_reason(one, other, reason):
    message = rf"that 'b' \(30 genes, such as .*\) shares with the sections before it \(30 genes, such as .*{reason}"
    with pytest.raises(InputError, match=message):
        concat_sections({"a": section(names=one), "b": section(names=other)})


def test_few_shared_genes_are_said(caplog):
    other = section(names=lambda names: [name if at < 5 else f"x{name}" for at, name in enumerate(names)])
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        assert concat_sections([section(), other]).n_vars == 5
    assert "Only 5 genes are in all sections; the section with the fewest has 30" in caplog.text


def test_what_cannot_be_put_together_is_said():
    with pytest.raises(InputError, match="two sections or more, found 1"):
        concat_sections({"a": section()})
    labelled = section()
    labelled.obs["section"] = "x"
    with pytest.raises(InputError, match="without a column 'section' in obs, found one in 'b'"):
        concat_sections({"a": section(), "b": labelled})
    nowhere = section()
    del nowhere.obsm["spatial"], nowhere.obs["array_row"]
    with pytest.raises(InputError, match=r"Expected coordinates in obsm\['spatial'\]"):
        concat_sections([section(), nowhere])
    with pytest.raises(InputError, match="join to be one of inner, outer"):
        concat_sections([section(), section()], join="left")
    with pytest.raises(InputError, match="two sections or more, found one AnnData"):
        concat_sections(section())
    with pytest.raises(InputError, match=r"AnnData for every section, found str for '2'\. Read files with stmmr\.read"):
        concat_sections([section(), "b.h5ad"])
