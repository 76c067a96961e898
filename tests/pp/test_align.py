"""Serial sections come back to where they were cut, and neighbours across them are joined."""

import logging

import numpy as np
import pytest

import stmmr
from stmmr import InputError
from stmmr._core import keys
from stmmr.pp import align_sections, concat_sections

PITCH = 100.0


def turned(degrees):
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def serial(*maps, drop=0, side=18):
    """Sections of one tissue, counted anew, each but the first moved by a map and a shift."""
    parts = {}
    for at, move in enumerate([np.eye(2), *maps]):
        part = stmmr.datasets.simulated_tissue(n_rows=side, n_cols=side, n_domains=4, n_genes=120, random_state=3)
        rng = np.random.default_rng(at)
        part.X.data = rng.poisson(part.X.data).astype(np.float32)
        part.obsm["where"] = 0.5 * part.obsm["spatial"]
        part.obsm["spatial"] = part.obsm["spatial"] @ move + rng.uniform(-3000, 3000, 2) * (at > 0)
        del part.uns["spatial"]["simulated"]["images"]
        parts[f"s{at}"] = part[rng.permutation(part.n_obs)[drop:]].copy()
    both = concat_sections(parts)
    stmmr.pp.expression(both, section_key="section")
    return both


def off(adata):
    """Distance of spots from where they were cut, in spacings."""
    return np.linalg.norm(adata.obsm[keys.SPATIAL_3D][:, :2] - adata.obsm["where"], axis=1) / PITCH


def test_turned_and_shifted_sections_come_back():
    both = serial(turned(70), turned(-160), drop=15)
    given = both.obsm["spatial"].copy()
    align_sections(both, "section", z=80)
    assert np.median(off(both)) < 0.2
    assert off(both).max() < 0.5
    assert set(both.obsm[keys.SPATIAL_3D][:, 2]) == {0, 80, 160}
    np.testing.assert_array_equal(both.obsm["spatial"], given)
    step = both.uns["stmmr"]["align_sections"]
    assert step["rotation"] == pytest.approx([-70, 160], abs=3)
    assert step["mirrored"] == [False, False]
    within = (both.obs["section"] == "s1").to_numpy()
    np.testing.assert_allclose(  # nothing is stretched
        np.ptp(
            np.linalg.norm(both.obsm[keys.SPATIAL_3D][within, :2] - both.obsm[keys.SPATIAL_3D][within][0, :2], axis=1)
        ),
        np.ptp(np.linalg.norm(given[within] - given[within][0], axis=1)) / 2,
    )


def test_mirrored_sections_are_said_and_turned_over_when_asked(caplog):
    both = serial(turned(30) @ np.diag([-1.0, 1.0]))
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        align_sections(both, "section", z=10)
    assert "Section s1 would fit s0 better turned over" in caplog.text
    assert both.uns["stmmr"]["align_sections"]["mirrored"] == [False]
    align_sections(both, "section", z=10, mirror=True)
    assert both.uns["stmmr"]["align_sections"]["mirrored"] == [True]
    assert np.median(off(both)) < 0.2


def test_positions_by_name_give_the_order():
    both = serial(turned(20), turned(40))
    align_sections(both, "section", z={"s0": 30, "s1": 200, "s2": 5.5})
    assert both.uns["stmmr"]["align_sections"]["order"] == ["s2", "s0", "s1"]
    assert both.obsm[keys.SPATIAL_3D][(both.obs["section"] == "s2").to_numpy(), 2] == pytest.approx(5.5)


def test_sections_named_by_numbers_have_their_positions():
    both = serial(turned(20))
    both.obs["section"] = both.obs["section"].map({"s0": 10, "s1": 9}).astype(int)
    align_sections(both, "section", z={9: 30.0, 10: 5}, um_per_unit=0.5)
    assert both.uns["stmmr"]["align_sections"]["order"] == ["10", "9"]
    np.testing.assert_array_equal(both.obsm["spatial_3d"][:, 2], np.where(both.obs["section"] == 9, 30, 5))


def test_many_spots_are_drawn(monkeypatch):
    from stmmr.pp import _align

    monkeypatch.setattr(_align, "MATCHED_AT_MOST", 120)
    both = serial(turned(50))
    align_sections(both, "section", z=10)
    assert np.median(off(both)) < 0.5


def test_what_is_missing_is_said():
    both = serial(turned(20))
    with pytest.raises(InputError, match="z of every section in µm, found none for s1"):
        align_sections(both, "section", z={"s0": 1.0})
    with pytest.raises(InputError, match="z to be a positive number, found 0"):
        align_sections(both, "section", z=0)
    both.obs["one"] = "a"
    with pytest.raises(InputError, match=r"two sections or more in obs\['one'\], found a"):
        align_sections(both, "one", z=10)
    bare = both.copy()
    del bare.uns["spatial"], bare.obs["array_row"]
    with pytest.raises(InputError, match="length of a unit of the coordinates in µm, found none for s0, s1"):
        align_sections(bare, "section", z=10)
    del both.obsm[keys.COMPONENTS]
    with pytest.raises(InputError, match=r"Run stmmr.pp.expression\(adata, section_key='section'\) first"):
        align_sections(both, "section", z=10)


def stacked(gap, **options):
    both = serial(np.eye(2), **options)
    z = gap * both.obs["section"].cat.codes.to_numpy()
    both.obsm[keys.SPATIAL_3D] = np.column_stack([both.obsm["where"], z])
    return both


def test_graph_joins_spots_across_sections():
    both = stacked(PITCH)
    stmmr.pp.spatial_graph(both, use="spatial_3d", section_key="section")
    graph, pairs = both.uns["stmmr"]["spatial_graph"], both.obsp[keys.GRAPH].tocoo()
    codes = both.obs["section"].cat.codes.to_numpy()
    assert 0.1 < graph["across_sections"] < 0.6
    assert (codes[pairs.row] != codes[pairs.col]).any()
    assert graph["nearest_neighbour_distance"] == pytest.approx(PITCH)
    np.testing.assert_allclose(both.obsp[keys.GRAPH].sum(axis=1), 1, atol=1e-5)
    distance = np.linalg.norm(both.obsm[keys.SPATIAL_3D][pairs.row] - both.obsm[keys.SPATIAL_3D][pairs.col], axis=1)
    assert distance.max() < 4.6 * graph["bandwidth"]


def test_sections_far_apart_in_z_are_as_those_without(caplog):
    both = stacked(100 * PITCH)
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        stmmr.pp.spatial_graph(both, use="spatial_3d", section_key="section", bandwidth=PITCH)
    assert "too far apart in z to be neighbours" in caplog.text
    alone = both.copy()
    stmmr.pp.spatial_graph(alone, section_key="section", bandwidth=2 * PITCH)
    assert abs(both.obsp[keys.GRAPH] - alone.obsp[keys.GRAPH]).max() < 1e-4


def test_the_same_tissue_above_and_below_helps():
    both, ari = stacked(PITCH, side=26), {}
    for use, bandwidth in (("spatial", 2 * PITCH), ("spatial_3d", PITCH)):  # in pixels, in µm
        stmmr.pp.spatial_graph(both, use=use, section_key="section", bandwidth=bandwidth)
        stmmr.StMMR(both, use_histology=False).fit(progress=False)
        stmmr.tl.consensus(both, 4)
        ari[use] = stmmr.tl.evaluate(both, label_key="ground_truth")["ari"]
    assert ari["spatial_3d"] > ari["spatial"] + 0.05


@pytest.mark.realdata
def test_sections_of_the_heart_come_close_to_their_registration(shared_data):
    heart = stmmr.read(shared_data / "st_human_heart_9sections.h5ad")
    heart = heart[heart.obs["image"].str.contains("^(?:7|8|9)_")].copy()
    heart.obsm["spatial"] = 200.0 * heart.obs[["array_col", "array_row"]].to_numpy(float)
    registered, before = heart.obsm.pop(keys.SPATIAL_3D)[:, :2], heart.obsm["spatial"]
    stmmr.pp.expression(heart, section_key="image")
    align_sections(heart, "image", z=100, um_per_unit=1.0)

    def off(xy):
        source, target = xy - xy.mean(axis=0), registered - registered.mean(axis=0)
        u, strength, vt = np.linalg.svd(source.T @ target)
        scale = strength.sum() / np.square(source).sum()
        return np.median(np.linalg.norm(source @ u @ vt - target / scale, axis=1)) / 200

    assert off(heart.obsm[keys.SPATIAL_3D][:, :2]) < min(2.0, 0.75 * off(before))


@pytest.mark.parametrize(
    ("xyz", "message"),
    [
        (None, "Expected the key 'spatial_3d' in obsm.*stmmr.pp.align_sections"),
        (lambda xyz: xyz[:, :2], r"three columns \(x, y, z\), found shape"),
        (lambda xyz: np.where(xyz == xyz[0], np.nan, xyz), "Expected finite coordinates in obsm"),
    ],
)
def test_bad_stacks_are_said(xyz, message):
    both = stacked(PITCH)
    good = both.obsm.pop(keys.SPATIAL_3D)
    if xyz is not None:
        both.obsm[keys.SPATIAL_3D] = xyz(good)
    with pytest.raises(InputError, match=message):
        stmmr.pp.spatial_graph(both, use="spatial_3d", section_key="section")
    with pytest.raises(InputError, match=message):
        stmmr.run(both, n_domains=2, section_key="section", in_3d=True, progress=False)


def test_paper_has_no_graph_in_3d():
    with pytest.raises(InputError, match="no in_3d with the preset 'paper'"):
        stmmr.run(stacked(PITCH), preset="paper", section_key="section", in_3d=True, progress=False)


def test_sections_that_show_different_areas_come_back():
    """Transport matches all spots, so it shifts a section that lacks a side; the local search takes it back."""
    both = serial(turned(25))
    lacks = (both.obs["section"] == "s1").to_numpy() & (both.obsm["where"][:, 0] < 5 * PITCH)
    both = both[~lacks].copy()
    align_sections(both, "section", z=10)
    assert np.median(off(both)) < 0.3
    assert both.uns["stmmr"]["align_sections"]["similarity"][0] > 0.5
