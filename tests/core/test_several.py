"""Several sections in one table are recognised, and one section is not taken for several."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import people
from stmmr import InputError
from stmmr._core.several import coordinates_apart, find_several, warn_implausible, with_sections
from stmmr._core.space import spacing
from stmmr.datasets import simulated_tissue


def joined(*, column="sample", jitter=0.0, array=True):
    """Two sections as `anndata.concat` leaves them."""
    parts = {name: people.section(8, 8) for name in "AB"}
    rng = np.random.default_rng(0)
    for name, part in parts.items():
        part.obsm["spatial"] += rng.normal(0, jitter, (part.n_obs, 2)) + (name == "B") * 40 * bool(jitter)
        if not array:
            part.obs = part.obs[["in_tissue"]]
    return ad.concat(parts, label=column, index_unique="-")


def kind(adata):
    """Name cells by type, in stripes that a second section has elsewhere."""
    position = np.tile(np.arange(64) // 22, 2) + np.repeat([0, 1], 64)
    adata.obs["kind"] = pd.Categorical((position % 3).astype(str))
    return adata


def stacked(*, first=False):
    adata = joined(array=False)
    del adata.obs["sample"]
    z = np.repeat([0.0, 50.0], 64)
    xy = adata.obsm["spatial"]
    adata.obsm["spatial"] = np.column_stack([z, xy] if first else [xy, z])
    return adata


def of_libraries():
    adata = joined(array=False)
    adata.obsm["spatial"] += np.repeat([[0, 0], [5000, 0]], 64, axis=0)
    adata.uns["spatial"] = {name: {"images": {}} for name in "AB"}
    return adata


def by_their_names():
    adata = joined()
    adata.obs = adata.obs.drop(columns="sample")
    return adata


SEVERAL = {
    "array positions repeat": (lambda: kind(joined()), "sample"),
    "coordinates repeat": (lambda: kind(joined(array=False, column="orig.ident")), "orig.ident"),
    "overlaid": (lambda: kind(joined(array=False, jitter=3.0, column="Library ID")), "Library ID"),
    "libraries": (of_libraries, "sample"),
    "names": (by_their_names, "section"),
    "z": (stacked, "section"),
    "z first": (lambda: stacked(first=True), "section"),
}


@pytest.mark.parametrize(("make", "key"), SEVERAL.values(), ids=SEVERAL)
def test_several_sections(make, key):
    adata = make()
    assert with_sections(adata, "auto") == key
    groups = pd.crosstab(adata.obs[key].to_numpy(), np.repeat(["A", "B"], 64))
    assert sorted(groups.to_numpy().ravel()) == [0, 0, 64, 64]


@pytest.mark.parametrize(("make", "key"), [SEVERAL[name] for name in SEVERAL if not name.startswith("z")])
def test_without_a_key_one_sentence_says_which_to_give(make, key):
    says = f"section_key='{key}' (--section-key {key})" if key != "section" else "(--section-key auto)"
    with pytest.raises(InputError, match="Expected one section, found several in one table: ") as error:
        with_sections(make(), None)
    assert says in str(error.value)


@pytest.mark.parametrize("first", [False, True])
def test_z_becomes_sections_without_being_told(first, caplog):
    adata = stacked(first=first)
    assert with_sections(adata, None) == "section"
    assert "2 values of z" in caplog.text
    assert list(adata.obs["section"].cat.categories) == ["0", "50"]


def test_a_column_that_has_the_sections_of_z_is_taken():
    adata = stacked()
    adata.obs["slice"] = np.repeat(["a", "b"], 64)
    assert with_sections(adata, None) == "slice"


def thick():
    adata = joined(array=False)[:64].copy()
    adata.obsm["spatial"] = np.c_[adata.obsm["spatial"], np.random.default_rng(0).normal(size=64)]
    return adata


def with_fields():
    adata = people.section(12, 12)
    adata.obs["fov"] = (adata.obs["array_row"] // 6).astype(str)
    return adata


def with_two_donors_apart():
    adata = people.section(12, 12)
    adata.obs["donor"] = np.where(adata.obs["array_row"] > 5, "a", "b")
    adata.obsm["spatial"][adata.obs["donor"] == "a"] += 10_000
    return adata


ONE = {
    "Visium": lambda: people.section(12, 12),
    "simulated": simulated_tissue,
    "thick section": thick,
    "fields of view": with_fields,
    "apart": with_two_donors_apart,
    "one library": lambda: people.section(8, 8),
}


@pytest.mark.parametrize("make", ONE.values(), ids=ONE)
def test_one_section(make):
    adata = make()
    before = list(adata.obs)
    assert find_several(adata) is None
    assert with_sections(adata, None) is None
    assert list(adata.obs) == before


def test_auto_finds_sections_that_are_apart(caplog):
    with caplog.at_level(logging.INFO, logger="stmmr"):
        assert with_sections(with_two_donors_apart(), "auto") == "donor"
        assert with_sections(people.section(8, 8), "auto") is None
    assert "There is one section" in caplog.text


def test_a_key_that_is_given_stays():
    assert with_sections(joined(), "sample") == "sample"


def test_no_column_and_no_name_tells():
    adata = by_their_names()
    adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
    with pytest.raises(InputError, match=r"50% of the array positions occur again. Name the column of obs"):
        with_sections(adata, "auto")


def test_neighbours_are_those_of_a_section(caplog):
    sections = [simulated_tissue(n_rows=8, n_cols=8, n_genes=5, random_state=i) for i in range(3)]
    pitch = spacing(sections[0].obsm["spatial"])
    for i, part in enumerate(sections):
        part.obsm["spatial"] = part.obsm["spatial"] + i * 1e-3
    adata = ad.concat(sections, label="sample", index_unique="-", uns_merge="unique")
    assert spacing(adata.obsm["spatial"]) < 0.01
    assert spacing(coordinates_apart(adata)) == pytest.approx(pitch)
    assert spacing(coordinates_apart(adata, "sample")) == pytest.approx(pitch)
    assert adata.uns["spatial"]
    warn_implausible(adata)
    assert not caplog.messages
    for library in adata.uns["spatial"].values():
        library["scalefactors"]["microns_per_pixel"] = 1e-6
    warn_implausible(adata)
    assert f"Neighbours are {pitch * 1e-6:.3g} µm apart" in caplog.text


def test_a_location_that_differs_in_its_last_digits_is_one():
    xy = simulated_tissue(n_rows=8, n_cols=8, n_genes=5).obsm["spatial"]
    assert spacing(np.vstack([xy, np.nextafter(xy, 0)])) == pytest.approx(spacing(xy))
