"""AnnData to SpatialData and back, runs on SpatialData, and what other packages do with the result."""

import io
import json
import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata.tests.helpers import assert_equal
from matplotlib.figure import Figure

import stmmr
from helpers import run_main
from stmmr import InputError
from stmmr._core import keys
from stmmr._core.space import coordinates
from stmmr.io import _tables, from_spatialdata, read_zarr, to_spatialdata
from stmmr.pipeline import folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sd = pytest.importorskip("spatialdata")
    from spatialdata.transformations import Scale, set_transformation

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def simulated():
    return stmmr.datasets.simulated_tissue(n_rows=14, n_cols=14, n_domains=3, n_genes=60)


@pytest.fixture
def tissue(simulated):
    return simulated.copy()


@pytest.fixture(scope="module")
def done(simulated):
    """The tissue after a run."""
    stmmr.run(adata := simulated.copy(), n_domains=3, label_key="ground_truth", progress=False)
    return adata


@pytest.fixture(scope="module")
def done_spatialdata(simulated):
    """The same run, on a SpatialData object."""
    sdata = to_spatialdata(simulated)
    stmmr.run(sdata, n_domains=3, label_key="ground_truth", progress=False)
    return sdata


def plain(value):
    """Make lists and arrays, and numbers of any kind, comparable."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def through_zarr(sdata, folder):
    sdata.write(folder / "x.zarr")
    return sd.read_zarr(folder / "x.zarr")


def sections_of(tissue, with_images):
    """Lay the tissue twice at the same coordinates, as two sections, shuffled."""
    parts = {"1: left": tissue.copy(), "2: right": tissue.copy()}
    both = ad.concat(parts, label="slide", index_unique="-", merge="same")
    names = {"both": ["slide"], "one": ["slide"], "none": []}[with_images]
    library = tissue.uns["spatial"]["simulated"]
    libraries = list(parts) if with_images == "both" else names
    both.uns["spatial"] = {name: {**library, "images": dict(library["images"])} for name in libraries}
    if with_images == "both":
        both.uns["spatial"]["2: right"]["images"]["hires"] = library["images"]["hires"][::-1]
    return both[np.random.default_rng(0).permutation(both.n_obs)].copy()


def test_there_and_back(done, tmp_path):
    sdata = to_spatialdata(done)
    assert_equal(from_spatialdata(sdata), done, exact=True)
    read = through_zarr(sdata, tmp_path)
    for back in (from_spatialdata(read), read_zarr(tmp_path / "x.zarr")):
        assert plain(back.uns.pop("stmmr")) == plain(done.uns["stmmr"])
        expected = done.copy()
        del expected.uns["stmmr"]
        assert_equal(back, expected, exact=True)


def test_users_see_no_warnings(tissue, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sdata = to_spatialdata(tissue)
        folder.write_spatialdata(tissue, tmp_path / "x.zarr")
        adata = read_zarr(tmp_path / "x.zarr")
        del sdata["table"].uns["spatial"]
        assert_equal(from_spatialdata(sdata).obsm["spatial"], adata.obsm["spatial"])
        stmmr.run(sdata, n_domains=2, progress=False)


def test_what_is_made(tissue):
    sdata = to_spatialdata(tissue, table="counts")
    assert (list(sdata.images), list(sdata.shapes), list(sdata.tables)) == (["simulated_hires"], ["spots"], ["counts"])
    same = to_spatialdata(tissue, table="spots")
    assert (list(same.shapes), list(same.tables)) == (["spots_1"], ["spots"])
    assert_equal(from_spatialdata(same), tissue, exact=True)
    assert sdata.coordinate_systems == ["global"]
    xy = sd.get_centroids(sdata["spots"]).compute()
    np.testing.assert_array_equal(xy.loc[tissue.obs_names], tissue.obsm["spatial"])
    factors = tissue.uns["spatial"]["simulated"]["scalefactors"]
    assert (sdata["spots"].radius == factors["spot_diameter_fullres"] / 2).all()
    extent = sd.get_extent(sdata["simulated_hires"])
    assert extent["x"][0] == extent["y"][0] == 0
    hires = tissue.uns["spatial"]["simulated"]["images"]["hires"]
    assert extent["x"][1] == pytest.approx(hires.shape[1] / factors["tissue_hires_scalef"])
    assert extent["y"][1] == pytest.approx(hires.shape[0] / factors["tissue_hires_scalef"])
    assert "stmmr_region" not in tissue.obs


def test_radius_without_scale_factors(tissue):
    del tissue.uns["spatial"]
    sdata = to_spatialdata(tissue)
    step = 100 / 0.5  # µm between spots, and per unit of the coordinates
    np.testing.assert_allclose(sdata["spots"].radius, step / 2)
    assert not sdata.images
    assert_equal(from_spatialdata(sdata), tissue, exact=True)


@pytest.mark.parametrize("with_images", ["none", "one", "both"])
def test_sections_there_and_back(tissue, tmp_path, with_images):
    both = sections_of(tissue, with_images)
    sdata = to_spatialdata(both, section_key="slide")
    own = [] if with_images == "one" else ["1__left", "2__right"]
    assert set(sdata.shapes) == {"1__left", "2__right"}
    assert sorted(sdata.coordinate_systems) == (own or ["global"])
    assert len(sdata.images) == {"none": 0, "one": 1, "both": 2}[with_images]
    back = from_spatialdata(through_zarr(sdata, tmp_path))
    assert_equal(back, both, exact=True)
    for name in own if with_images == "both" else ():
        assert sd.transformations.get_transformation(sdata[f"{name}_hires"], name)
        alone = from_spatialdata(sdata, region=name)
        assert set(alone.obs["slide"]) == {name.replace("__", ": ")}


def test_section_key_of_the_graph(tissue):
    both = sections_of(tissue, "none")
    stmmr.pp.expression(both)
    stmmr.pp.spatial_graph(both, section_key="slide")
    assert set(to_spatialdata(both).shapes) == {"1__left", "2__right"}


def test_image_of_no_section(tissue, caplog):
    both = sections_of(tissue, "both")
    both.uns["spatial"]["3"] = both.uns["spatial"].pop("2: right")
    sdata = to_spatialdata(both, section_key="slide")
    assert "The image of '3' stays in uns['spatial']" in caplog.text
    assert list(sdata.images) == ["1__left_hires"]


def test_names_that_are_not_allowed(tissue, caplog):
    tissue.obs["cell type"] = "a"
    tissue.obs["Cell_type"] = "b"
    sdata = to_spatialdata(tissue)
    assert "were changed in obs: cell type → cell_type, Cell_type → Cell_type_1" in caplog.text
    assert (sdata["table"].obs["cell_type"] == "a").all()
    assert "cell type" in tissue.obs


def test_array_positions_only(tissue):
    del tissue.obsm["spatial"], tissue.uns["spatial"]
    back = from_spatialdata(to_spatialdata(tissue))
    np.testing.assert_array_equal(back.obsm["spatial"], coordinates(tissue))


def without_names(adata):
    adata.obs_names = ["a"] * adata.n_obs


def without_coordinates(adata):
    del adata.obsm["spatial"]
    adata.obs = adata.obs[["ground_truth"]]


def without_a_section(adata):
    adata.obs["slide"] = pd.Categorical([None] * adata.n_obs, categories=["a"])


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (without_names, {}, "spots with unique names, found 1"),
        (without_coordinates, {}, "Expected coordinates"),
        (without_a_section, {"section_key": "slide"}, "section for all spots in obs"),
        (lambda adata: None, {"section_key": "ground_thruth"}, "Did you mean 'ground_truth'"),
    ],
)
def test_tables_that_cannot_be_made(tissue, spoil, options, message):
    spoil(tissue)
    with pytest.raises(InputError, match=message):
        to_spatialdata(tissue, **options)


def test_counts_in_a_file(tissue, tmp_path):
    tissue.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match="counts in memory"):
        to_spatialdata(stmmr.read(tmp_path / "a.h5ad", backed=True))


def test_run_on_spatialdata_as_on_anndata(done, done_spatialdata):
    table = done_spatialdata["table"]
    for key in ("stmmr_domain", "stmmr_confidence", "stmmr_domain_refined", "stmmr_library_size"):
        pd.testing.assert_series_equal(table.obs[key], done.obs[key])
    for key in (keys.EMBEDDING, keys.COMPONENTS, keys.HISTOLOGY):
        np.testing.assert_array_equal(table.obsm[key], done.obsm[key])
    assert (table.obsp[keys.GRAPH] != done.obsp[keys.GRAPH]).nnz == 0
    np.testing.assert_array_equal(table.var[keys.HIGHLY_VARIABLE], done.var[keys.HIGHLY_VARIABLE])
    times = {"seconds", "peak_memory_mb"}
    ours, theirs = ({k: v for k, v in a.uns["stmmr"].items() if k not in times} for a in (table, done))
    ours["histology"], theirs["histology"] = ({**a["histology"], "image": ""} for a in (ours, theirs))
    assert ours["histology"].pop("image_scale") == pytest.approx(theirs["histology"].pop("image_scale"))
    assert ours["histology"].pop("um_per_pixel") == pytest.approx(theirs["histology"].pop("um_per_pixel"))
    assert plain(ours) == plain(theirs)  # except the name of the image
    assert set(done.layers) == set(table.layers)


def test_run_leaves_everything_else(simulated):
    sdata = to_spatialdata(simulated)
    set_transformation(sdata["spots"], Scale([0.5, 0.5], ("x", "y")), "half")
    sdata["other"] = ad.AnnData(np.ones((2, 2), dtype=np.float32))
    elements = {name: id(element) for _, name, element in sdata.gen_elements()}
    table, before = sdata["table"], sdata["table"].copy()
    stmmr.run(sdata, n_domains=2, table="table", coordinate_system="half", histology=False, progress=False)
    assert {name: id(element) for _, name, element in sdata.gen_elements()} == elements
    assert sdata["table"] is table
    assert keys.DOMAIN in table.obs
    np.testing.assert_array_equal(table.obsm["spatial"], before.obsm["spatial"])
    assert_equal(table.X, before.X)
    assert_equal({k: v for k, v in table.uns.items() if not k.startswith("stmmr")}, before.uns)
    assert_equal(table.obs[before.obs.columns], before.obs)
    with pytest.raises(InputError, match="found other, table"):
        stmmr.run(sdata, n_domains=2)


def test_run_on_sections(tissue):
    both = sections_of(tissue, "both")
    sdata = to_spatialdata(both, section_key="slide")
    for data in (both, sdata):
        stmmr.run(data, n_domains=3, section_key="slide", histology=False, progress=False)
    np.testing.assert_array_equal(sdata["table"].obsm[keys.EMBEDDING], both.obsm[keys.EMBEDDING])


def test_run_by_the_name_of_an_image_or_its_file(simulated, tmp_path):
    import PIL.Image

    sdata = to_spatialdata(simulated)
    with pytest.raises(InputError, match="Did you mean 'simulated_hires'"):
        stmmr.run(sdata, n_domains=2, image="simulated_hire")
    adata = simulated.copy()
    library = adata.uns["spatial"].pop("simulated")
    adata.obsm["spatial"] *= library["scalefactors"]["tissue_hires_scalef"]
    without = to_spatialdata(adata)
    PIL.Image.fromarray(library["images"]["hires"]).save(tmp_path / "he.png")
    for data, image in ((sdata, "simulated_hires"), (without, tmp_path / "he.png")):
        stmmr.run(data, n_domains=2, image=image, progress=False)
    np.testing.assert_allclose(
        sdata["table"].obsm[keys.HISTOLOGY], without["table"].obsm[keys.HISTOLOGY], rtol=1e-4, atol=1e-4
    )


def test_table_that_is_a_view(simulated):
    sdata = to_spatialdata(simulated)
    sdata["table"] = sdata["table"][: simulated.n_obs // 2]
    stmmr.run(sdata, n_domains=2, histology=False, progress=False)
    assert keys.DOMAIN in sdata["table"].obs


def test_table_without_coordinates_gets_them(simulated):
    sdata = to_spatialdata(simulated)
    del sdata["table"].obsm["spatial"]
    stmmr.run(sdata, n_domains=2, histology=False, progress=False)
    np.testing.assert_array_equal(sdata["table"].obsm["spatial"], simulated.obsm["spatial"])


@pytest.mark.parametrize("option", ["table", "coordinate_system"])
def test_anndata_has_no_tables(tissue, option):
    with pytest.raises(InputError, match=f"SpatialData for {option}, found AnnData"):
        stmmr.run(tissue, **{option: "a"})


@pytest.mark.filterwarnings("ignore::Warning")
def test_squidpy(done_spatialdata, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sq = pytest.importorskip("squidpy")
    table = through_zarr(done_spatialdata, tmp_path)["table"]
    sq.gr.spatial_neighbors(table, coord_type="generic")
    sq.gr.nhood_enrichment(table, cluster_key=keys.DOMAIN, show_progress_bar=False, n_perms=50)
    scores = table.uns[f"{keys.DOMAIN}_nhood_enrichment"]["zscore"]
    assert (np.diag(scores) > 3).all()
    sq.pl.spatial_scatter(table, color=keys.DOMAIN)


@pytest.mark.filterwarnings("ignore::Warning")
def test_spatialdata_plot(done_spatialdata, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("spatialdata_plot")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots()
    through_zarr(done_spatialdata, tmp_path).pl.render_images().pl.render_shapes(color=keys.DOMAIN).pl.show(ax=ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1", "2", "3"]
    (shown,) = ax.images
    (left, right), extent = ax.get_xlim(), sd.get_extent(done_spatialdata["spots"])
    assert left <= extent["x"][0] < extent["x"][1] <= right
    assert shown.get_array().size
    plt.close(figure)


@pytest.fixture(scope="module")
def store(simulated, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "in.zarr"
    sdata = to_spatialdata(simulated)
    del sdata["table"].uns["spatial"]
    sdata["half"] = sdata["table"][::2].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sdata.write(path)
    return path


savefig = Figure.savefig


def only_curves_of_the_report(figure, file, **options):
    """Leave out the files of figures, which take long; the report embeds its curves from memory."""
    if isinstance(file, io.StringIO):
        savefig(figure, file, **options)


@pytest.mark.slow
def test_command_line(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("stmmr.tl.umap", lambda adata: None)
    monkeypatch.setattr("stmmr.pl.embedding", stmmr.pl.domains)
    monkeypatch.setattr(Figure, "savefig", only_curves_of_the_report)
    options = ("--n-domains", 3, "--no-progress")
    assert run_main("run", store, "-o", tmp_path / "a", *options) == 1
    assert "found half, table. Give the folder" in capsys.readouterr().err
    named = (store, "--table", "table", "--image", "simulated_hires")
    assert run_main("run", *named, "-o", tmp_path / "a", "--spatialdata", *options) == 0
    assert (
        run_main("run", store / "tables" / "table", "-o", tmp_path / "b", "--mode", "disk", "--no-report", *options)
        == 0
    )
    first, second = (pd.read_csv(tmp_path / name / "domains.csv", index_col=0) for name in "ab")
    assert (first["domain"] == second["domain"]).mean() > 0.95
    sdata = sd.read_zarr(tmp_path / "a" / "spatialdata.zarr")
    np.testing.assert_array_equal(sdata["table"].obs[keys.DOMAIN].astype(int), first["domain"])
    assert list(sdata.images) == ["spots_hires"]
    result = ad.read_h5ad(tmp_path / "a" / "result.h5ad")
    assert {keys.HISTOLOGY, "spatial"} <= set(result.obsm)
    assert json.loads((tmp_path / "a" / "run.json").read_text())["options"]["table"] == "table"
    on_disk = ad.read_zarr(tmp_path / "b" / "result.zarr")
    assert on_disk.X.shape == result.X.shape
    assert (on_disk.X != result.X).sum() == 0
    assert keys.HISTOLOGY in on_disk.obsm


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--table", "tabel"), "Did you mean 'table'"),
        (("--table", "table", "--image", "simulated_hirez"), "Did you mean 'simulated_hires'"),
        (("--table", "table", "--coordinate-system", "local"), "'local' in the coordinate systems of 'spots'"),
        (("--table", "table", "--mode", "disk", "--spatialdata"), "stay on disk"),
    ],
)
def test_command_line_on_what_is_not_there(store, tmp_path, capsys, options, found):
    assert run_main("run", store, "-o", tmp_path / "out", *options) == 1
    assert found in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_table_of_a_file_that_has_none(tissue, tmp_path, capsys):
    tissue.write_h5ad(tmp_path / "in.h5ad")
    assert run_main("run", tmp_path / "in.h5ad", "-o", tmp_path / "out", "--table", "a") == 1
    assert "Expected a SpatialData store" in capsys.readouterr().err
    tissue.write_zarr(tmp_path / "in.zarr")
    for option in ({"table": "a"}, {"image": "a"}, {"coordinate_system": "a"}):
        with pytest.raises(InputError, match=f"Expected a SpatialData store for .*{next(iter(option))}"):
            read_zarr(tmp_path / "in.zarr", **option)


def test_store_without_the_extra(store, monkeypatch, caplog):
    monkeypatch.setattr(_tables, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = read_zarr(store, table="table")
    assert "are not read: run pip install 'stmmr-kit[spatialdata]' to read them" in caplog.text
    assert "spatial" not in adata.uns
    assert keys.REGION in adata.obs


def test_store_that_is_damaged(simulated, tmp_path):
    to_spatialdata(simulated).write(tmp_path / "x.zarr")
    (tmp_path / "x.zarr" / "shapes" / "spots" / "shapes.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"Expected an AnnData or SpatialData store .*damaged or cut short"):
        read_zarr(tmp_path / "x.zarr")


@pytest.mark.realdata
def test_visium_there_and_back(shared_data, tmp_path):
    adata = ad.read_h5ad(shared_data / "visium_dlpfc_151673.h5ad")
    through_zarr(to_spatialdata(adata), tmp_path)
    assert_equal(read_zarr(tmp_path / "x.zarr"), adata, exact=True)
