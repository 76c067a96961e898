"""Exports are read back by other readers: the same domains at the same coordinates."""

import csv
import gzip
import json
import shutil
import subprocess

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.io
import shapely
from scipy import sparse

import stmmr
from helpers import run_main

TARGETS = ("loupe", "qupath", "geojson", "vitessce", "csv")


@pytest.fixture(scope="module")
def visium(shared_data):
    """The spots of a section of cortex, with the layers of the experts as domains."""
    adata = stmmr.read(shared_data / "visium_dlpfc_151673.h5ad")[::4].copy()
    adata.obs["layer"] = adata.obs["ground_truth"]
    return adata


@pytest.fixture(scope="module")
def xenium(shared_fixtures):
    adata = stmmr.read(shared_fixtures / "xenium_1_with_boundaries", boundaries=True)
    return with_stripes(adata)


@pytest.fixture(scope="module")
def simulated():
    tissue = stmmr.datasets.simulated_tissue(n_rows=9, n_cols=9, n_domains=3, n_genes=12)
    return with_stripes(tissue)


def with_stripes(adata):
    x = adata.obsm["spatial"][:, 0]
    adata.obs["layer"] = pd.Categorical(np.where(x < np.median(x), "left, outer", "right"))
    return adata


def features(path):
    """Read a GeoJSON with the modules of Python and shapely."""
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection"
    return [(shapely.from_geojson(json.dumps(each["geometry"])), each["properties"]) for each in content["features"]]


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_outlines(path, adata, name, *, scale=1):
    """Each spot with a domain is in the outline of its domain and in no other."""
    for outline, properties in features(path):
        own = (adata.obs["layer"] == name(properties)).to_numpy()
        assert own.any()
        inside = shapely.contains_xy(outline, *(scale * adata.obsm["spatial"]).T)
        known = adata.obs["layer"].notna().to_numpy()
        np.testing.assert_array_equal(inside[known], own[known])


@pytest.mark.realdata
def test_visium_in_loupe_qupath_and_geojson(visium, tmp_path):
    stmmr.export(visium, tmp_path / "loupe", to="loupe", domain_key="layer")
    table = rows(tmp_path / "loupe/categories.csv")
    assert {row["Barcode"]: row["layer"] for row in table} == visium.obs["layer"].dropna().to_dict()
    stmmr.export(visium, tmp_path / "qupath", to="qupath", domain_key="layer")
    check_outlines(tmp_path / "qupath/domains.geojson", visium, lambda found: found["classification"]["name"])
    spots = features(tmp_path / "qupath/spots.geojson")
    centres = np.array([(spot.centroid.x, spot.centroid.y) for spot, _ in spots])
    np.testing.assert_allclose(centres, visium.obsm["spatial"], atol=0.01)  # px of the full-resolution image
    assert [found["name"] for _, found in spots] == list(visium.obs_names)
    diameter = np.diff(np.array(spots[0][0].bounds).reshape(2, 2), axis=0)
    np.testing.assert_allclose(diameter, 96.4, atol=0.05)  # spot_diameter_fullres
    assert {found["objectType"] for _, found in spots} == {"detection"}
    stmmr.export(visium, tmp_path / "geojson", to="geojson", domain_key="layer")
    check_outlines(tmp_path / "geojson/domains.geojson", visium, lambda found: found["domain"])
    with pytest.raises(stmmr.InputError, match="Expected cells for Xenium Explorer, found spots"):
        stmmr.export(visium, tmp_path / "xenium", to="xenium-explorer", domain_key="layer")
    assert not (tmp_path / "xenium").exists()


@pytest.mark.realdata
def test_cells_of_xenium(xenium, shared_fixtures, tmp_path):
    stmmr.export(xenium, tmp_path / "groups", to="xenium-explorer", domain_key="layer")
    table = rows(tmp_path / "groups/cell_groups.csv")
    assert {row["cell_id"]: row["group"] for row in table} == xenium.obs["layer"].to_dict()
    assert list(table[0]) == ["cell_id", "group", "color"]
    with pytest.raises(stmmr.InputError, match=r"found µm and no scale .*um_per_pixel=0.2125"):
        stmmr.export(xenium, tmp_path / "qupath", to="qupath", domain_key="layer")
    stmmr.export(xenium, tmp_path / "qupath", to="qupath", domain_key="layer", um_per_pixel=0.2125)
    name = lambda found: found["classification"]["name"]  # noqa: E731
    check_outlines(tmp_path / "qupath/domains.geojson", xenium, name, scale=1 / 0.2125)
    assert len(features(tmp_path / "qupath/cells.geojson")) == xenium.n_obs
    table = pd.read_csv(shared_fixtures / "xenium_1_with_boundaries/cell_boundaries.csv.gz", dtype={"cell_id": str})
    corners = dict(iter(table.groupby("cell_id")[["vertex_x", "vertex_y"]]))
    for cell, found in features(tmp_path / "qupath/cells.geojson"):  # outlines as 10x writes them, in px
        theirs = shapely.Polygon(corners[found["name"]].to_numpy() / 0.2125)
        assert shapely.hausdorff_distance(cell, theirs) < 0.02
    with pytest.raises(stmmr.InputError, match="Expected barcodes of 10x"):
        stmmr.export(xenium, tmp_path / "loupe", to="loupe", domain_key="layer")


@pytest.mark.realdata
@pytest.mark.filterwarnings(r"ignore:[\s\S]*spmatrix:DeprecationWarning")
def test_tables_of_visium(visium, tmp_path):
    stmmr.export(visium, tmp_path / "csv", to="csv", domain_key="layer")
    table = rows(tmp_path / "csv/spots.csv")
    assert [row["spot"] for row in table] == list(visium.obs_names)
    assert [row["domain"] or np.nan for row in table] == list(visium.obs["layer"])
    np.testing.assert_allclose([[float(row["x"]), float(row["y"])] for row in table], visium.obsm["spatial"])
    with gzip.open(tmp_path / "csv/matrix.mtx.gz") as file:
        counts = sparse.coo_array(scipy.io.mmread(file))
    np.testing.assert_array_equal(np.ravel(counts.sum(axis=0)), np.asarray(visium.X.sum(axis=1)).ravel())
    with gzip.open(tmp_path / "csv/features.tsv.gz", "rt") as file:
        assert [line.split("\t")[1] for line in file] == list(visium.var_names)
    assert (tmp_path / "csv/read.R").read_text().count("spots.csv") == 1


def test_vitessce_reads_the_same_domains_at_the_same_places(simulated, tmp_path):
    stmmr.export(simulated, tmp_path / "v", to="vitessce", domain_key="layer")
    shown = ad.read_zarr(tmp_path / "v/data.zarr")
    assert list(shown.obs["domain"]) == list(simulated.obs["layer"])
    np.testing.assert_allclose(shown.obsm["tissue"] * [1, -1], simulated.obsm["spatial"], rtol=1e-6)
    np.testing.assert_allclose(shown.X.toarray(), lognormalised(simulated), rtol=1e-5)
    configuration = json.loads((tmp_path / "v/vitessce.json").read_text())
    (file,) = configuration["datasets"][0]["files"]
    for part in (*file["options"]["obsEmbedding"], *file["options"]["obsSets"]):
        assert (tmp_path / "v" / file["url"] / part["path"]).is_dir()
    scopes = configuration["coordinationSpace"]
    for view in configuration["layout"]:
        for name, scope in view["coordinationScopes"].items():
            assert scope in scopes[name]
    assert [each["path"] for each in scopes["obsSetColor"]["A"]] == [["Domain", "left, outer"], ["Domain", "right"]]


def lognormalised(adata):
    copy = adata.copy()
    stmmr.pp.expression(copy)
    return copy.layers["stmmr_lognorm"].toarray()


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore:[\s\S]*inplace keyword")  # of dask on pandas 3.1
def test_napari_reads_outlines_and_points(simulated, tmp_path):
    spatialdata = pytest.importorskip("spatialdata")
    stmmr.export(simulated, tmp_path / "n", to="napari", domain_key="layer")
    sdata = spatialdata.read_zarr(tmp_path / "n/data.zarr")
    outlines = sdata.shapes["domains"]
    for name, outline in zip(outlines["domain"], outlines.geometry, strict=True):
        inside = shapely.contains_xy(outline, *simulated.obsm["spatial"].T)
        np.testing.assert_array_equal(inside, (simulated.obs["layer"] == name).to_numpy())
    points = sdata.points["centres"].compute()
    np.testing.assert_allclose(points[["x", "y"]], simulated.obsm["spatial"])
    assert list(points["domain"].astype(str)) == list(simulated.obs["layer"])
    assert list(sdata.tables["table"].obs["layer"]) == list(simulated.obs["layer"])


def test_several_sections(simulated, tmp_path):
    other = simulated.copy()
    for part in (simulated, other):
        part.obs_names = [f"ACGTACGTACGTAC{'ACGT'[i % 4]}{'ACGT'[i // 4 % 4]}{'ACGT'[i // 16 % 4]}{'ACGT'[i // 64]}-1"
                          for i in range(part.n_obs)]  # fmt: skip
    both = stmmr.pp.concat_sections({"a b": simulated, "c": other})
    both.obs["layer"] = both.obs["layer"].astype("category")
    stmmr.pp.expression(both, section_key="section")
    stmmr.pp.spatial_graph(both, section_key="section")
    stmmr.export(both, tmp_path / "loupe", to="loupe", domain_key="layer")
    names = [row["Barcode"] for row in rows(tmp_path / "loupe/categories.csv")]
    assert names == [*simulated.obs_names, *(name.replace("-1", "-2") for name in other.obs_names)]
    assert "a b (-1), c (-2)" in (tmp_path / "loupe/README.txt").read_text()
    stmmr.export(both, tmp_path / "qupath", to="qupath", domain_key="layer", um_per_pixel=1)
    assert {path.name for path in (tmp_path / "qupath").glob("*.geojson")} == {
        "domains_a_b.geojson", "domains_c.geojson", "spots_a_b.geojson", "spots_c.geojson"
    }  # fmt: skip
    assert [found["name"] for _, found in features(tmp_path / "qupath/spots_c.geojson")] == list(other.obs_names)


def test_command_and_its_errors(simulated, tmp_path, capsys):
    result = tmp_path / "result.h5ad"
    simulated.write_h5ad(result)
    command = ("export", result, "--to", "geojson", "--domain-key", "layer")
    assert run_main(*command) == 0
    folder = tmp_path / "result.h5ad_geojson"
    assert {path.name for path in folder.iterdir()} == {"domains.geojson", "README.txt", "export.json"}
    before = (folder / "domains.geojson").read_bytes()
    assert run_main(*command) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run_main(*command, "--overwrite") == 0
    assert (folder / "domains.geojson").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    assert run_main(*command, "-o", tmp_path / "mine", "--overwrite") == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert run_main("export", result, "--to", "qupath") == 1
    assert "Expected the key 'stmmr_domain' in obs" in capsys.readouterr().err
    assert run_main("export", result, "--to", "cellprofiler") == 1


def table_for_10x(path):
    """Read a table for a viewer of 10x: UTF-8 without a byte order mark, commas, and as many cells in each row."""
    text = path.read_bytes().decode("utf-8")
    assert not text.startswith("\ufeff") and text.endswith("\n") and "\r" not in text
    header, *lines = csv.reader(text.splitlines(keepends=True), strict=True)
    assert {len(line) for line in lines} == {len(header)}
    return header, list(zip(*lines, strict=True))


NAMED = {"left, outer": 'Höhle "α", 1', "right": "2"}


def test_cell_groups_follow_the_rules_of_xenium_explorer(simulated, tmp_path):
    cells = simulated.copy()
    cells.obs, cells.uns = cells.obs[["layer"]].copy(), {}
    cells.obs_names = [f"{'abcdefgh'[:7]}{chr(97 + i % 16)}{i}-1" for i in range(cells.n_obs)]
    cells.obs["layer"] = cells.obs["layer"].cat.rename_categories(NAMED)
    cells.obs.iloc[:5, cells.obs.columns.get_loc("layer")] = np.nan
    cells.uns["layer_colors"] = ["#0072b2", "#E69F00FF"]
    header, (ids, groups, colors) = table_for_10x(
        stmmr.export(cells, tmp_path / "x", to="xenium-explorer", domain_key="layer") / "cell_groups.csv"
    )
    assert header == ["cell_id", "group", "color"]
    assert list(ids) == list(cells.obs_names[5:])  # each cell with a domain once
    assert list(groups) == list(cells.obs["layer"][5:])
    assert len(set(zip(groups, colors, strict=True))) == 2
    assert {color.lower() for color in colors} == {"#0072b2", "#e69f00"}


def test_categories_follow_the_rules_of_loupe(simulated, tmp_path):
    spots = simulated.copy()
    spots.obs_names = [f"s_008um_{i:05d}_00000-1" for i in range(spots.n_obs)]
    spots.obs["layer"] = spots.obs["layer"].cat.rename_categories(NAMED)
    spots.obs.iloc[:5, spots.obs.columns.get_loc("layer")] = np.nan
    header, (barcodes, names) = table_for_10x(
        stmmr.export(spots, tmp_path / "x", to="loupe", domain_key="layer") / "categories.csv"
    )
    assert header == ["Barcode", "layer"]  # the header of a category is its name
    assert list(barcodes) == list(spots.obs_names[5:])
    assert list(names) == list(spots.obs["layer"][5:])


@pytest.mark.parametrize("target", TARGETS)
def test_names_from_elsewhere_are_no_formulas_and_break_nothing(simulated, tmp_path, target):
    odd = simulated.copy()
    odd.obs["layer"] = odd.obs["layer"].cat.rename_categories({"right": '=1+"é/\n'})
    if target == "loupe":
        odd.obs_names = [f"s_008um_{i:05d}_00000-1" for i in range(odd.n_obs)]
    folder = stmmr.export(odd, tmp_path / "out", to=target, domain_key="layer")
    for path in folder.glob("*.geojson"):
        assert len(features(path)) >= 2
    for path in folder.glob("*.csv"):
        assert all(not value.startswith("=") for row in rows(path) for value in row.values())


@pytest.mark.parametrize(
    ("name", "barcode"),
    [
        ("AAACAAGTATCTCCCA-1", "AAACAAGTATCTCCCA-1"),
        ("AAACAAGTATCTCCCA.2", "AAACAAGTATCTCCCA-2"),  # as R writes it
        ("AAACAAGTATCTCCCA", "AAACAAGTATCTCCCA-1"),
        ("cellid_000000001-1", "cellid_000000001-1"),
    ],
)
def test_barcodes_are_those_of_10x(simulated, tmp_path, name, barcode):
    one = simulated[:1].copy()
    one.obs_names = [name]
    stmmr.export(one, tmp_path / "out", to="loupe", domain_key="layer")
    assert [row["Barcode"] for row in rows(tmp_path / "out/categories.csv")] == [barcode]


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="needs R with the package Matrix")
def test_r_reads_the_tables(simulated, tmp_path):
    folder = stmmr.export(simulated, tmp_path / "csv", to="csv", domain_key="layer")
    shown = 'source("read.R"); cat(dim(counts), sum(counts), as.character(spots$domain[c(1, nrow(spots))]), sep = "|")'
    read = subprocess.run(
        [shutil.which("Rscript"), "-e", shown], cwd=folder, capture_output=True, text=True, check=True
    )
    n_obs, n_vars = simulated.shape
    total, first, last = simulated.X.sum(), *simulated.obs["layer"].iloc[[0, -1]]
    assert read.stdout.endswith(f"{n_vars}|{n_obs}|{total:.0f}|{first}|{last}")


def test_coordinates_of_an_unknown_unit_are_taken_as_um(tmp_path):
    adata = stmmr.datasets.simulated_tissue(n_rows=8, n_cols=8, n_genes=10, n_domains=2)
    adata = ad.AnnData(
        adata.X, obs=adata.obs[["ground_truth"]], obsm={"spatial": np.random.default_rng(0).random((adata.n_obs, 2))}
    )
    with pytest.raises(stmmr.InputError, match=r"give stmmr export the µm per pixel"):
        stmmr.export(adata, tmp_path / "q", to="qupath", domain_key="ground_truth")
    stmmr.export(adata, tmp_path / "q", to="qupath", domain_key="ground_truth", um_per_pixel=0.5)
    points = json.loads((tmp_path / "q/cells.geojson").read_text())["features"][0]["geometry"]["coordinates"]
    np.testing.assert_allclose(np.mean(points[0][:-1], axis=0), adata.obsm["spatial"][0] * 2, atol=0.05)


def test_an_unknown_target_is_named(simulated, tmp_path):
    with pytest.raises(stmmr.InputError, match="Expected the target `to` to be one of xenium-explorer"):
        stmmr.export(simulated, tmp_path / "x", to="excel")
