"""Outlines of cells: as in the files, and still those of their cells after subsetting, joining and writing."""

import json
import struct

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

import people
from people import cosmx, merscope
from stmmr import InputError, io
from stmmr._core import keys
from stmmr._core.boundaries import MOST, areas, outlines, packed


def rings(section, unit=1.0):
    """Draw an outline of 3 to 7 vertices around each cell, closed."""
    drawn = []
    for i, centre in enumerate(section.obsm["spatial"]):
        angle = np.linspace(0, 2 * np.pi, 3 + i % 5 + 1)[:, None]
        ring = centre + unit * (3 + i % 4) * np.hstack([np.cos(angle), np.sin(angle)])
        drawn.append(np.vstack([ring[:-1], ring[:1]]))
    return drawn


def long(section, drawn, columns):
    """Write one vertex a row."""
    names = np.repeat(section.obs_names, [len(ring) for ring in drawn])
    return pd.DataFrame(np.vstack(drawn), columns=columns).assign(name=names)


def xenium(folder, section, *, csv=False, as_bytes=False):
    people.write_10x_h5(folder / "cell_feature_matrix.h5", section)
    cells = people.xy_table(section, "x_centroid", "y_centroid").rename_axis("cell_id").reset_index()
    drawn = rings(section)
    table = long(section, drawn, ["vertex_x", "vertex_y"]).rename(columns={"name": "cell_id"})
    if as_bytes:
        cells["cell_id"], table["cell_id"] = cells["cell_id"].str.encode("ascii"), table["cell_id"].str.encode("ascii")
    cells.assign(cell_area=3.0).to_parquet(folder / "cells.parquet", index=False)
    table = table[["cell_id", "vertex_x", "vertex_y"]]
    if csv:
        table.to_csv(folder / "cell_boundaries.csv.gz", index=False)
    else:
        table.to_parquet(folder / "cell_boundaries.parquet", index=False)
    return drawn


def wkb(ring, order="<", multi=False):
    mark = b"\1" if order == "<" else b"\0"
    polygon = mark + struct.pack(f"{order}III", 3, 1, len(ring)) + ring.astype(f"{order}f8").tobytes()
    return mark + struct.pack(f"{order}II", 6, 1) + polygon if multi else polygon


def merscope_parquet(folder, section, **options):
    merscope(folder, section)
    drawn = rings(section)
    planes = []
    for z in range(3):
        shapes = [wkb(ring + 9 * (z - 1), **options) for ring in drawn]
        planes.append(pd.DataFrame({"EntityID": section.obs_names, "ZIndex": z, "Geometry": shapes}))
    pd.concat(planes).to_parquet(folder / "cell_boundaries.parquet")
    return drawn


def merscope_hdf5(folder, section):
    merscope(folder, section)
    drawn = rings(section)
    (folder / "cell_boundaries").mkdir()
    for part in range(2):
        with h5py.File(folder / f"cell_boundaries/feature_data_{part}.hdf5", "w") as file:
            for name, ring in list(zip(section.obs_names, drawn, strict=True))[part::2]:
                for z in range(3):
                    file[f"featuredata/{name}/zIndex_{z}/p_0/coordinates"] = ring[None] + 9 * (z - 1)
                file.create_group(f"featuredata/{name}/zIndex_3")
    return drawn


def without_global(counts, cells, fields):
    return counts, cells.drop(columns=["CenterX_global_px", "CenterY_global_px"]), fields


def cosmx_polygons(folder, section, *, local=False):
    cosmx(folder, section, edit=without_global if local else lambda *tables: tables)
    drawn = rings(section)
    table = long(section, drawn, ["x_global_px", "y_global_px"])
    table[["cellID", "fov"]] = table.pop("name").str.split("_", expand=True)
    if local:
        fov = table["fov"].astype(int).to_numpy() - 1
        table["x_local_px"] = table.pop("x_global_px") - fov % 2 * 4256
        table["y_local_px"] = 4256 - (table.pop("y_global_px") - fov // 2 * 4256)
    table.to_csv(folder / "S0-polygons.csv", index=False)
    return drawn


def hd_cells(folder, section):
    section.obs_names = [f"cellid_{i + 1:09d}-1" for i in range(section.n_obs)]
    people.write_10x_h5(folder / "filtered_feature_cell_matrix.h5", section)
    drawn = rings(section)
    features = [
        {"properties": {"cell_id": i + 1}, "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]}}
        for i, ring in enumerate(drawn)
    ]
    (folder / "cell_segmentations.geojson").write_text(json.dumps({"features": features}))
    people.write_spatial(folder / "spatial", section)
    return drawn


WRITERS = {
    "Xenium": xenium,
    "Xenium, csv": lambda *where: xenium(*where, csv=True),
    "Xenium, names as bytes": lambda *where: xenium(*where, as_bytes=True),
    "MERSCOPE": merscope_parquet,
    "MERSCOPE, other geometries": lambda *where: merscope_parquet(*where, order=">", multi=True),
    "MERSCOPE, HDF5": merscope_hdf5,
    "CosMx": cosmx_polygons,
    "CosMx, local pixels": lambda *where: cosmx_polygons(*where, local=True),
    "Visium HD": hd_cells,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_outlines_as_in_the_files(write, tmp_path):
    section = people.section()
    drawn = write(tmp_path, section)
    assert keys.BOUNDARIES not in io.read(tmp_path).obsm
    adata = io.read(tmp_path, boundaries=True)[section.obs_names]
    assert adata.obsm[keys.BOUNDARIES].shape == (section.n_obs, 2 * MOST)
    for ring, expected in zip(outlines(adata.obsm[keys.BOUNDARIES]), drawn, strict=True):
        np.testing.assert_allclose(ring, expected[:-1], rtol=1e-6, atol=1e-2)
    area = next((name for name in ("area", "cell_area", "Area") if name in adata.obs), None)
    if area == "area":
        sides = np.array([len(ring) - 1 for ring in drawn])
        radius = 3 + np.arange(section.n_obs) % 4
        np.testing.assert_allclose(adata.obs["area"], sides / 2 * radius**2 * np.sin(2 * np.pi / sides), rtol=1e-4)


def test_outlines_survive_subsetting_joining_and_writing(tmp_path):
    section = people.section()
    (tmp_path / "a").mkdir()
    drawn = xenium(tmp_path / "a", section)
    adata = io.read(tmp_path / "a", boundaries=True)
    joined = ad.concat([adata[::2], adata[1::2]])[section.obs_names]
    joined.write_h5ad(tmp_path / "joined.h5ad")
    read = io.read(tmp_path / "joined.h5ad")[5:]
    for ring, expected in zip(outlines(read.obsm[keys.BOUNDARIES]), drawn[5:], strict=True):
        np.testing.assert_allclose(ring, expected[:-1], rtol=1e-6)


def test_outlines_are_converted_with_the_coordinates(tmp_path):
    from stmmr.pp import concat_sections

    parts = {}
    for name, um in (("a", 1.0), ("b", 0.5)):
        (tmp_path / name).mkdir()
        xenium(tmp_path / name, people.section())
        parts[name] = io.read(tmp_path / name, boundaries=True)
        next(iter(parts[name].uns["spatial"].values()))["scalefactors"]["microns_per_pixel"] = um
    joined = concat_sections(parts)
    for ring, centre in zip(outlines(joined.obsm[keys.BOUNDARIES]), joined.obsm["spatial"], strict=True):
        assert np.abs(ring - centre).max() < 7


def test_cells_without_an_outline():
    vertices = np.array([[0, 0], [2, 0], [2, 2], [0, 2], [0, 0], [3, 0], [0, 4]], dtype=float)
    number = np.array([0, 4, 0, 3, 0])
    assert areas(vertices, number).tolist() == [0, 4, 0, 6, 0]
    assert [len(ring) for ring in outlines(packed(vertices, number))] == number.tolist()


def test_outlines_that_are_missing(tmp_path):
    section = people.section()
    xenium(tmp_path, section)
    (tmp_path / "cell_boundaries.parquet").unlink()
    with pytest.raises(InputError, match="Expected the outlines of the cells"):
        io.read(tmp_path, boundaries=True)
    section.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match="Expected Xenium, CosMx, MERSCOPE or cells of Visium HD for boundaries"):
        io.read(tmp_path / "a.h5ad", boundaries=True)


def test_outlines_become_shapes_of_spatialdata(tmp_path):
    pytest.importorskip("spatialdata")
    section = people.section()
    drawn = xenium(tmp_path, section)
    shapes = io.to_spatialdata(io.read(tmp_path, boundaries=True)).shapes[keys.BOUNDARIES]
    assert list(shapes.index) == list(section.obs_names)
    assert len(shapes.geometry.iloc[4].exterior.coords) == len(drawn[4])
