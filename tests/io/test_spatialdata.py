"""SpatialData to AnnData: spots on the image for every transformation, and messages about bad input."""

import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from stmmr import InputError
from stmmr._core.space import um_per_unit
from stmmr.image import slide
from stmmr.io import _element_images, from_spatialdata, image_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sd = pytest.importorskip("spatialdata")
    import dask.array as da
    from geopandas import GeoDataFrame
    from shapely import box
    from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, ShapesModel, TableModel
    from spatialdata.transformations import Affine, Identity, Scale

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")

GLASS, DOT = np.array([240, 230, 235]), np.array([60, 20, 120])
HEIGHT, WIDTH = 150, 200


def affine(a, b, c, d, x, y):
    return np.array([[a, b, x], [c, d, y], [0, 0, 1]], dtype=float)


def turned(degrees, scale=1.0, x=0.0, y=0.0):
    cos, sin = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    return affine(cos, -sin, sin, cos, x, y)


LAID = {
    "as it is": np.eye(3),
    "scaled": affine(8, 0, 0, 8, 0, 0),
    "moved": affine(0.5, 0, 0, 0.5, -40, 1000),
    "turned": turned(37, 2.5, 500, -20),
    "upside down": turned(180),
    "mirrored": affine(-1, 0, 0, 1, 300, 0),
    "stretched": affine(2, 0, 0, 3, 0, 0),
    "sheared": affine(1, 0.4, 0, 1, 10, 10),
}
UPRIGHT = {"as it is", "scaled", "moved"}


def pixels_of_spots():
    """Positions of spots on the image, in its pixels; irregular, so that no rotation maps them onto themselves."""
    return np.random.default_rng(1).permutation(np.stack(np.mgrid[12:190:17, 11:140:13], -1).reshape(-1, 2))[:60] + 0.5


def draw(at, height=HEIGHT, width=WIDTH):
    """Glass with a dark dot of 5 × 5 pixels at every spot, and a little noise."""
    drawn = np.random.default_rng(0).integers(-5, 6, (height, width, 3)) + GLASS
    for x, y in at.astype(int):
        drawn[y - 2 : y + 3, x - 2 : x + 3] = DOT
    return drawn.astype(np.uint8)


def image(pixels, matrix=None, *, system="global", scale_factors=None, channels=("r", "g", "b")):
    transformation = Identity() if matrix is None else Affine(matrix, ("x", "y"), ("x", "y"))
    return Image2DModel.parse(
        np.moveaxis(pixels, 2, 0),
        dims=("c", "y", "x"),
        c_coords=None if channels is None else list(channels),
        transformations={system: transformation},
        scale_factors=scale_factors,
    )


def table(n, region="spots", ids=None, **content):
    """Make a table of n spots that annotates one or several elements, in reverse order of their instances."""
    of = np.repeat(region, n) if isinstance(region, str) else np.asarray(region)
    ids = np.arange(n)[::-1] if ids is None else ids
    obs = pd.DataFrame({"region": pd.Categorical(of), "spot": ids}, index=[f"place {i}" for i in range(n)])
    counts = np.random.default_rng(2).poisson(2.0, (n, 4)).astype(np.float32)
    adata = ad.AnnData(counts, obs=obs, **content)
    return TableModel.parse(adata, region=list(np.unique(of)), region_key="region", instance_key="spot")


def circles(xy, system="global", radius=3.0, **more):
    return ShapesModel.parse(xy, geometry=0, radius=radius, transformations={system: Identity(), **more})


def section(matrix=None, *, scale_factors=None, **images):
    """Make a section with circles in "global" at the dots of an image that an affine map puts there."""
    matrix = np.eye(3) if matrix is None else matrix
    at = pixels_of_spots()
    xy = at @ matrix[:2, :2].T + matrix[:2, 2]
    he = {"he": image(draw(at), matrix, scale_factors=scale_factors)}
    return sd.SpatialData(images=he | images, shapes={"spots": circles(xy)}, tables={"table": table(len(at))})


def library_of(adata, name="spots"):
    library = adata.uns["spatial"][name]
    return library["images"]["hires"], library["scalefactors"]


@pytest.mark.parametrize("scale_factors", [None, [2, 2]])
@pytest.mark.parametrize("how", LAID)
def test_every_spot_is_on_its_dot(how, scale_factors):
    sdata = section(LAID[how], scale_factors=scale_factors)
    adata = from_spatialdata(sdata)
    hires, factors = library_of(adata)
    at = adata.obsm["spatial"] * factors["tissue_hires_scalef"]
    np.testing.assert_allclose(at, pixels_of_spots()[::-1], atol=1e-6)
    assert (np.abs(hires[at[:, 1].astype(int), at[:, 0].astype(int)] - DOT) == 0).all()
    np.testing.assert_array_equal(hires, draw(pixels_of_spots()))
    if how in UPRIGHT:  # then the unit stays that of the coordinate system
        assert factors["tissue_hires_scalef"] == pytest.approx(1 / LAID[how][0, 0])
        assert factors["spot_diameter_fullres"] == pytest.approx(6)
    else:
        assert factors["tissue_hires_scalef"] == 1
        assert factors["spot_diameter_fullres"] == pytest.approx(6 / np.sqrt(abs(np.linalg.det(LAID[how]))))


@pytest.mark.parametrize("how", LAID)
def test_the_full_image_and_the_spots_on_it(how):
    sdata = section(LAID[how], scale_factors=[2])
    element, matrix = image_of(sdata)
    assert element is sdata.images["he"]
    xy = from_spatialdata(sdata).obsm["spatial"]
    np.testing.assert_allclose(xy @ matrix[:2, :2].T + matrix[:2, 2], pixels_of_spots()[::-1], atol=1e-6)


def test_the_original_is_left_as_it_was():
    sdata = section(LAID["turned"])
    before = sdata["table"].copy()
    adata = from_spatialdata(sdata)
    adata.X[:] = 0
    assert list(sdata["table"].uns) == list(before.uns) == ["spatialdata_attrs"]
    assert "spatial" not in sdata["table"].obsm
    np.testing.assert_array_equal(sdata["table"].X, before.X)
    assert "spatialdata_attrs" in adata.uns


def test_a_large_image_is_read_at_the_level_that_fits(monkeypatch):
    monkeypatch.setattr(slide, "OVERVIEW_PX", 60)
    monkeypatch.setattr(_element_images, "WINDOW", 20)
    sdata = section(scale_factors=[2])
    full = sdata.images["he"]["scale0"]["image"]
    read = []

    def noted(block, block_info=None):
        read.append(block_info[0]["chunk-location"])
        return block

    blocks = da.from_array(full.data.compute(), chunks=(3, 25, 25))
    full.data = da.map_blocks(noted, blocks, dtype=np.uint8, meta=np.empty((0, 0, 0), dtype=np.uint8))
    hires, factors = library_of(from_spatialdata(sdata))
    assert {(y, x) for _, y, x in read} <= {(2, 3), (3, 3), (2, 4), (3, 4)}  # its middle, to see whether it is grey
    assert hires.shape == (38, 50, 3)
    assert factors["tissue_hires_scalef"] == pytest.approx(0.25)
    whole = draw(pixels_of_spots()).astype(float)[:148].reshape(37, 4, 50, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(hires[:37], whole, atol=2)  # the level is rounded down


def test_one_large_level_is_averaged(monkeypatch):
    monkeypatch.setattr(slide, "OVERVIEW_PX", 60)
    hires, factors = library_of(from_spatialdata(section()))
    whole = draw(pixels_of_spots()).astype(float)[:148].reshape(37, 4, 50, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(hires[:37], whole, atol=1)
    assert factors["tissue_hires_scalef"] == 0.25


@pytest.mark.parametrize("scale_factors", [None, [2]])
def test_labels(scale_factors):
    labels = np.zeros((60, 80), dtype=np.int32)
    labels[3:10, 5:9], labels[20:50, 40:44], labels[52:58, 2:30] = 1, 2, 5
    labels[3:6, 9] = 1
    parsed = Labels2DModel.parse(
        labels, dims=("y", "x"), transformations={"global": Scale([2, 2], ("x", "y"))}, scale_factors=scale_factors
    )
    sdata = sd.SpatialData(labels={"cells": parsed}, tables={"table": table(3, "cells", [5, 1, 2])})
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, [5, 1, 2]))[:, ::-1] + 0.5
    np.testing.assert_allclose(from_spatialdata(sdata).obsm["spatial"], 2 * centres)
    assert "spatial" not in from_spatialdata(sdata).uns


def squares(xy, side, names, **transformations):
    shapes = GeoDataFrame(geometry=[box(x - side / 2, y - side / 2, x + side / 2, y + side / 2) for x, y in xy])
    shapes.index = names
    return ShapesModel.parse(shapes, transformations=transformations or {"global": Identity()})


def test_polygons_by_name():
    xy = np.array([[10.0, 20], [40, 20], [40, 70]])
    sdata = sd.SpatialData(
        shapes={"cells": squares(xy, 4, ["b", "c", "a"])}, tables={"table": table(3, "cells", ["a", "b", "c"])}
    )
    adata = from_spatialdata(sdata, um_per_unit=0.5)
    np.testing.assert_array_equal(adata.obsm["spatial"], xy[[2, 0, 1]])
    factors = adata.uns["spatial"]["cells"]["scalefactors"]
    assert factors["spot_diameter_fullres"] == pytest.approx(2 * np.sqrt(16 / np.pi))
    assert um_per_unit(adata, xy, adata.uns["spatial"]["cells"]) == (0.5, "microns_per_pixel")


def two_sections(systems=("one", "two")):
    """Two sections of the same coordinates, with an image each; spots of both mixed."""
    at = pixels_of_spots()[:20]
    shapes = {name: circles(at * 2, system) for name, system in zip("AB", systems, strict=True)}
    other = at + np.array([4, 2])
    shapes["B"] = circles(other * 4, systems[1])
    images = {
        "A_he": image(draw(at), affine(2, 0, 0, 2, 0, 0), system=systems[0]),
        "B_he": image(draw(other), affine(4, 0, 0, 4, 0, 0), system=systems[1]),
    }
    adata = table(40, np.tile(["B", "A"], 20), np.repeat(np.arange(20), 2))
    return sd.SpatialData(images=images, shapes=shapes, tables={"table": adata})


def test_sections_in_systems_of_their_own(caplog):
    sdata = two_sections()
    adata = from_spatialdata(sdata)
    assert "run with section_key='region'" in caplog.text
    for name, shift in (("A", 0), ("B", [4, 2])):
        hires, factors = library_of(adata, name)
        at = adata.obsm["spatial"][adata.obs["region"] == name] * factors["tissue_hires_scalef"]
        np.testing.assert_allclose(at, pixels_of_spots()[:20] + shift)
        assert (hires[at[:, 1].astype(int), at[:, 0].astype(int)] == DOT).all()
        alone = from_spatialdata(sdata, region=name)
        np.testing.assert_array_equal(alone.obsm["spatial"], adata.obsm["spatial"][adata.obs["region"] == name])
        assert list(alone.uns["spatial"]) == [name]
        assert alone.uns["spatialdata_attrs"]["region"] == [name]
        assert image_of(sdata, region=name)[0] is sdata.images[f"{name}_he"]
    with pytest.raises(InputError, match=r"found A_he, B_he\. Choose a region"):
        image_of(sdata)


def test_regions_under_several_images_of_one_system():
    sdata = two_sections(("global", "global"))
    with pytest.raises(InputError, match=r'one image under the regions B, A, found A_he, B_he\. Name one: image="…"'):
        from_spatialdata(sdata)
    assert list(from_spatialdata(sdata, image="A_he").uns["spatial"]) == ["B"]
    assert "spatial" not in from_spatialdata(sdata, with_image=False).uns
    with pytest.warns(FutureWarning, match="with_picture was renamed: use with_image"):
        assert "spatial" not in from_spatialdata(sdata, with_picture=False).uns
    del sdata.images["A_he"]  # both are on the remaining one, which is then the image of the slide
    assert list(from_spatialdata(sdata).uns["spatial"]) == ["B"]


def test_regions_beside_each_other_with_an_image_each():
    sdata = two_sections(("global", "global"))
    away = Affine(affine(1, 0, 0, 1, 10_000, 0), ("x", "y"), ("x", "y"))
    sd.transformations.set_transformation(sdata.shapes["B"], away)
    before = sd.transformations.get_transformation(sdata.images["B_he"])
    there = sd.transformations.Sequence([before, away])
    sd.transformations.set_transformation(sdata.images["B_he"], there)
    adata = from_spatialdata(sdata)
    assert set(adata.uns["spatial"]) == {"A", "B"}
    at = adata.obsm["spatial"][adata.obs["region"] == "B"] / 4
    np.testing.assert_allclose(at, pixels_of_spots()[:20] + np.array([4, 2]), atol=1e-6)


def grey(at):
    return np.repeat(draw(at)[..., :1], 3, axis=2)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda at: image(np.zeros((50, 50, 5), np.uint16), channels=["DAPI", *"wxyz"]), "the channels DAPI, w, x"),
        (lambda at: image(draw(at), channels=["DAPI", "PolyT", "CD45"]), "the channels DAPI, PolyT, CD45"),
        (lambda at: image(draw(at).astype(np.uint16) * 9, channels=None), "channels without names of uint16"),
        (lambda at: image(grey(at)), "greyscale"),
        (lambda at: image(draw(at).astype(np.float32) * 4), "80 to 980"),
    ],
)
def test_other_stains_are_ignored(caplog, other, reason):
    sdata = section(fluorescence=other(pixels_of_spots()))
    with caplog.at_level(logging.INFO, logger="stmmr"):
        hires, _ = library_of(from_spatialdata(sdata))
    np.testing.assert_array_equal(hires, draw(pixels_of_spots()))
    assert f"Images ignored, as they are no H&E image of these spots: fluorescence ({reason}" in caplog.text
    with pytest.raises(InputError, match=rf"H&E image in colour in 'fluorescence', found {reason}"):
        from_spatialdata(sdata, image="fluorescence")
    del sdata.images["he"]
    assert "spatial" not in from_spatialdata(sdata).uns
    with pytest.raises(InputError, match=r"found nothing\. Add one"):
        image_of(sdata)


def test_image_beside_the_spots_is_ignored(caplog):
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = from_spatialdata(section(beside=image(draw(pixels_of_spots()), affine(1, 0, 0, 1, 150, 0))))
    np.testing.assert_allclose(adata.obsm["spatial"], pixels_of_spots()[::-1])
    assert "beside (1" in caplog.text
    assert "% of the spots are on it)" in caplog.text


def test_the_sharpest_of_several_images(caplog):
    fine = np.repeat(np.repeat(draw(pixels_of_spots()), 2, axis=0), 2, axis=1)
    finest = np.repeat(np.repeat(fine, 2, axis=0), 2, axis=1)
    sdata = section(
        full=image(fine, affine(0.5, 0, 0, 0.5, 0, 0)), cytassist=image(finest, affine(0.25, 0, 0, 0.25, 0, 0))
    )
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = from_spatialdata(sdata)
    assert library_of(adata)[1]["tissue_hires_scalef"] == 2
    assert "Using the sharpest of the images full, he, cytassist: full." in caplog.text
    assert library_of(from_spatialdata(sdata, image="he"))[1]["tissue_hires_scalef"] == 1


def test_opacity_is_laid_over_white():
    at = pixels_of_spots()
    clear = np.dstack([draw(at), np.full((HEIGHT, WIDTH), 255)]).astype(np.uint8)
    clear[:5, :, 3] = 0
    sdata = section()
    sdata.images["he"] = image(clear, channels="rgba")
    hires, _ = library_of(from_spatialdata(sdata))
    assert (hires[:5] == 255).all()


@pytest.mark.parametrize(
    ("shapes", "name", "columns", "um"),
    [
        (lambda xy: circles(xy, microns=Scale([0.25, 0.25], ("x", "y"))), "cells", (), 0.25),
        (lambda xy: circles(xy / 4, microns=Identity()), "cells", (), 1.0),
        (lambda xy: squares(xy, 32, np.arange(len(xy))), "x_square_008um", (), 0.25),
        (lambda xy: circles(xy, radius=16), "square_016um", (), 0.5),
        (lambda xy: circles(xy, radius=16), "16um_of_something", ("a",), 0.5),
        (lambda xy: circles(xy, radius=16), "cells", ("cell_area",), np.nan),
    ],
)
def test_microns(shapes, name, columns, um):
    xy = pixels_of_spots()
    sdata = sd.SpatialData(shapes={name: shapes(xy)}, tables={"table": table(len(xy), name)})
    for column in columns:
        sdata["table"].obs[column] = 1.0
    adata = from_spatialdata(sdata)
    found = um_per_unit(adata, adata.obsm["spatial"], *adata.uns.get("spatial", {}).values())[0]
    np.testing.assert_allclose(found, um)


@pytest.mark.parametrize("how", ["scaled", "turned"])
def test_microns_of_xenium_and_those_given(how):
    """Shapes in µm, mapped to global by 1 / 0.2125; an image that is scaled or rotated there."""
    sdata = section(LAID[how])
    xy = sdata.shapes["spots"].geometry.get_coordinates().to_numpy()
    onto = {"global": Scale([1 / 0.2125] * 2, ("x", "y"))}
    sdata.shapes["spots"] = ShapesModel.parse(xy * 0.2125, geometry=0, radius=1.0, transformations=onto)
    for column in ("transcript_counts", "control_probe_counts", "cell_area", "nucleus_area"):
        sdata["table"].obs[column] = 1.0
    adata = from_spatialdata(sdata)
    unit = 1 if how in UPRIGHT else 2.5  # units of global per unit of the coordinates
    np.testing.assert_allclose(library_of(adata)[1]["microns_per_pixel"], 0.2125 * unit)
    given = from_spatialdata(sdata, um_per_unit=0.5)
    np.testing.assert_allclose(library_of(given)[1]["microns_per_pixel"], 0.5 * unit)


def test_coordinates_of_the_table_where_the_element_is_missing(caplog):
    sdata = section()
    xy = sdata.shapes["spots"].geometry.get_coordinates().to_numpy()[::-1]
    sdata["table"].obsm["spatial"] = np.column_stack([xy, np.zeros(len(xy))])
    del sdata.shapes["spots"]
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = from_spatialdata(sdata)
    assert "of the table itself, in the coordinate system 'global': spots, which it annotates" in caplog.text
    assert adata.obsm["spatial"].shape[1] == 3  # left as it is
    hires, _ = library_of(adata)
    assert (hires[xy[:, 1].astype(int), xy[:, 0].astype(int)] == DOT).all()
    del sdata["table"].uns["spatialdata_attrs"]
    np.testing.assert_array_equal(from_spatialdata(sdata).obsm["spatial"][:, :2], xy)
    del sdata["table"].obsm["spatial"]
    with pytest.raises(InputError, match="a table without: it annotates no element, and it has no obsm"):
        from_spatialdata(sdata)
    with pytest.raises(InputError, match="annotates elements for region"):
        from_spatialdata(sdata, region="spots")


def test_points_as_spots():
    xy = pixels_of_spots()
    points = PointsModel.parse(pd.DataFrame(xy, columns=["x", "y"]))
    sdata = sd.SpatialData(points={"beads": points}, tables={"table": table(len(xy), "beads")})
    np.testing.assert_array_equal(from_spatialdata(sdata).obsm["spatial"], xy[::-1])


def test_no_table():
    with pytest.raises(InputError, match=r"one table in the SpatialData object, found nothing\. Counts are needed"):
        from_spatialdata(sd.SpatialData(shapes={"spots": circles(pixels_of_spots())}))


def test_several_tables():
    sdata = section()
    sdata["other"] = table(5)
    with pytest.raises(InputError, match=r"found other, table\. Name one of them: table="):
        from_spatialdata(sdata)
    assert from_spatialdata(sdata, table="other").n_obs == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "tabel"}, "'tabel' in the tables .*Did you mean 'table'"),
        ({"image": "hee"}, "'hee' in the images .*Did you mean 'he'"),
        ({"region": "spot"}, "'spot' in the regions of the table.*Did you mean 'spots'"),
        ({"coordinate_system": "globl"}, "'globl' in the coordinate systems of 'spots'.*Did you mean 'global'"),
        ({"um_per_unit": -1.0}, "um_per_unit to be a positive number"),
    ],
)
def test_unknown_names(options, message):
    with pytest.raises(InputError, match=message):
        from_spatialdata(section(), **options)


def test_instances_that_do_not_match():
    sdata = section()
    sdata["table"].obs["spot"] = [f"spot_{i}" for i in range(58)] + [0, 1]
    with pytest.raises(
        InputError, match=r"found 58 of 60 \(97%\) that it does not have \(first: 'spot_0'; it has 0, 1"
    ):
        from_spatialdata(sdata)


def test_one_region_is_missing():
    sdata = two_sections()
    del sdata.shapes["B"]
    with pytest.raises(InputError, match=r"elements B, A, which the table annotates, found B missing"):
        from_spatialdata(sdata)
    assert from_spatialdata(sdata, region="A").n_obs == 20


def test_coordinate_systems():
    xy = pixels_of_spots()
    own = circles(xy, "own", small=Scale([0.1, 0.1], ("x", "y")), tiny=Scale([0.01, 0.01], ("x", "y")))
    sdata = sd.SpatialData(shapes={"spots": own}, tables={"table": table(len(xy))})
    np.testing.assert_allclose(from_spatialdata(sdata).obsm["spatial"], xy[::-1])
    np.testing.assert_allclose(from_spatialdata(sdata, coordinate_system="small").obsm["spatial"], xy[::-1] / 10)
    sdata.images["he"] = image(draw(xy))
    with pytest.raises(InputError, match="'own' in the coordinate systems of the image 'he', found global"):
        from_spatialdata(sdata, image="he")
    sd.transformations.remove_transformation(sdata.shapes["spots"], "own")
    with pytest.raises(InputError, match=r"coordinate system for 'spots', found small, tiny\. Choose one"):
        from_spatialdata(sdata)


def test_a_table_that_describes_an_image():
    sdata = section()
    del sdata.shapes["spots"]
    sdata.images["spots"] = sdata.images["he"]
    with pytest.raises(InputError, match="shapes, labels or points in 'spots', found an image"):
        from_spatialdata(sdata)


def test_image_of_three_dimensions():
    deep = sd.models.Image3DModel.parse(np.zeros((3, 2, 50, 50), np.uint8), dims=("c", "z", "y", "x"))
    with pytest.raises(InputError, match=r"found the axes c, z, y, x\. Name another"):
        from_spatialdata(section(deep=deep), image="deep")
