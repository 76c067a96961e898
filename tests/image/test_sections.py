"""Each section is described by its own image, as it would be by itself, and what stands in the way is said."""

import logging

import numpy as np
import PIL.Image
import pytest

import stmmr
from stmmr import InputError
from stmmr._core import keys
from stmmr.image.sections import images_available
from stmmr.pipeline.resume import data_fingerprint
from stmmr.pp import concat_sections, histology


def section(seed, *, n_rows=14, n_cols=14):
    return stmmr.datasets.simulated_tissue(n_rows=n_rows, n_cols=n_cols, n_genes=40, random_state=seed)


def coarser(adata):
    """Halve the resolution of the image."""
    (library,) = adata.uns["spatial"].values()
    library["images"]["hires"] = library["images"]["hires"][::2, ::2].copy()
    library["scalefactors"]["tissue_hires_scalef"] /= 2
    return adata


@pytest.fixture(scope="module")
def apart():
    """Two sections with images of different size and scale, the features of each by itself."""
    parts = {"left": section(0), "right": coarser(section(1, n_rows=12, n_cols=18))}
    for part in parts.values():
        histology(part, progress=False)
    return parts


@pytest.fixture
def both(apart):
    return concat_sections({name: raw(part) for name, part in apart.items()})


def raw(part):
    """Get the section as it was before its image was read."""
    part = part.copy()
    del part.obsm[keys.HISTOLOGY], part.obs[keys.PATCH], part.uns["stmmr"]
    (library,) = part.uns["spatial"].values()
    del library["images"]["tissue_mask"]
    return part


def test_features_are_those_of_each_section_by_itself(apart, both):
    both = both[np.random.default_rng(0).permutation(both.n_obs)].copy()  # spots in any order
    histology(both, section_key="section", progress=False)
    for name, part in apart.items():
        own = both[both.obs["section"] == name]
        order = own.obs_names.str.removesuffix(f"-{name}")
        alone = part[order]
        np.testing.assert_allclose(own.obsm[keys.HISTOLOGY], alone.obsm[keys.HISTOLOGY], rtol=1e-5, atol=1e-6)
        assert list(own.obs[keys.PATCH]) == list(alone.obs[keys.PATCH])
        (library,) = part.uns["spatial"].values()
        np.testing.assert_array_equal(
            both.uns["spatial"][name]["images"]["tissue_mask"], library["images"]["tissue_mask"]
        )
    noted = both.uns["stmmr"]["histology"]
    assert noted["sections"] == ["left", "right"]
    for key in ("um_per_pixel", "image_scale", "image_shape"):
        assert noted[key] == [part.uns["stmmr"]["histology"][key] for part in apart.values()]
    assert noted["um_per_pixel"] == [4, 8]


def test_the_graph_tells_the_sections(both):
    stmmr.pp.spatial_graph(both, bandwidth=300, section_key="section")
    histology(both, progress=False)
    assert both.uns["stmmr"]["histology"]["sections"] == ["left", "right"]


def test_a_cache_has_the_features_of_each_image(both, tmp_path, monkeypatch):
    histology(both, section_key="section", cache=tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr("stmmr.encoders.HEEncoder.__call__", None)
    again = histology(both, section_key="section", cache=tmp_path, progress=False, copy=True)
    np.testing.assert_array_equal(again.obsm[keys.HISTOLOGY], both.obsm[keys.HISTOLOGY])


def test_components_are_of_what_varies_within_sections(both):
    both.uns["spatial"]["right"]["images"]["hires"] = both.uns["spatial"]["right"]["images"]["hires"] // 2 + 40
    histology(both, section_key="section", n_components=5, progress=False)
    scores = both.obsm[keys.HISTOLOGY]
    assert scores.shape == (both.n_obs, 5)
    for name in ("left", "right"):
        assert np.abs(scores[both.obs["section"] == name].mean(axis=0)).max() < 1e-4 * scores.std()


def test_images_from_files_in_the_unit_they_came_with(apart, tmp_path):
    """The coordinates of a section that were brought to another unit still lie on its own image."""
    parts = {name: raw(part) for name, part in apart.items()}
    images = {}
    for name, part in parts.items():
        (library,) = part.uns["spatial"].values()
        scale = library["scalefactors"].pop("tissue_hires_scalef")
        part.obsm["spatial"] = part.obsm["spatial"] * scale
        library["scalefactors"] = {"microns_per_pixel": 0.5 / scale}
        images[name] = tmp_path / f"{name}.png"
        PIL.Image.fromarray(library.pop("images")["hires"]).save(images[name])
    both = concat_sections(parts)
    right = (both.obs["section"] == "right").to_numpy()
    np.testing.assert_allclose(both.obsm["spatial"][right], 2 * parts["right"].obsm["spatial"])
    registration = {"left": np.eye(3)}
    histology(both, image=images, registration=registration, section_key="section", progress=False)
    together = np.vstack([part.obsm[keys.HISTOLOGY] for part in apart.values()])
    np.testing.assert_allclose(both.obsm[keys.HISTOLOGY], together, rtol=1e-4, atol=1e-4)
    for name in images:
        assert {"hires", "tissue_mask"} <= both.uns["spatial"][name]["images"].keys()
    ax = stmmr.pl.registration(both, library_id="right")
    assert max(len(c.get_offsets()) for c in ax.collections) == right.sum()


def test_a_section_without_a_image_leaves_all_out(both, caplog):
    del both.uns["spatial"]["right"]["images"]
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        assert not images_available(both, section_key="section")
    (record,) = caplog.records
    assert "some sections have none (right)" in record.getMessage()
    with pytest.raises(InputError, match=r"^Section right: Expected a hires or lowres image .*, found nothing"):
        histology(both, section_key="section", progress=False)
    assert images_available(both, {"right": "he.jpg"}, section_key="section")
    assert keys.HISTOLOGY not in both.obsm


def test_sections_without_any_image_need_no_warning(both, caplog):
    for library in both.uns["spatial"].values():
        del library["images"]
    assert not images_available(both, section_key="section")
    assert not caplog.records


def test_libraries_without_sections_are_refused_with_the_way_out(both):
    with pytest.raises(InputError, match=r"found left, right. Give library_id='…' or, .* section_key='…'"):
        histology(both, progress=False)
    both.obs["other"] = both.obs["section"].cat.rename_categories({"left": "1", "right": "2"})
    with pytest.raises(InputError, match=r"section_key='…' \(--section-key\), the column of obs with their names"):
        stmmr.run(both, section_key="other", progress=False)


def test_messages_name_the_section(both, caplog):
    right = (both.obs["section"] == "right").to_numpy()
    mirrored = both.copy()
    image = mirrored.uns["spatial"]["right"]["images"]["hires"]
    mirrored.uns["spatial"]["right"]["images"]["hires"] = np.full_like(image, 240)
    mirrored.uns["spatial"]["right"]["images"]["hires"][:10, :10] = image[:10, :10]
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        histology(mirrored, section_key="section", progress=False)
    assert [r.getMessage()[:15] for r in caplog.records if "lie on the tissue" in r.getMessage()] == ["Section right: "]
    both.obsm["spatial"][right] += 1e5
    with pytest.raises(InputError, match=r"^Section right: Expected the spots inside the image \(hires,"):
        histology(both, section_key="section", progress=False)


def test_what_is_given_for_sections_is_checked(both):
    image = both.uns["spatial"]["left"]["images"]["hires"]
    with pytest.raises(InputError, match=r"Expected image for each section \(left, right\), found one for all"):
        histology(both, image=image, section_key="section", progress=False)
    with pytest.raises(InputError, match=r"Expected the key 'lefd' in the sections, .* Did you mean 'left'"):
        histology(both, image={"lefd": image}, section_key="section", progress=False)
    with pytest.raises(InputError, match="Expected registration for each section"):
        histology(both, image={"left": image}, registration=np.eye(3), section_key="section", progress=False)
    with pytest.raises(InputError, match="Expected section_key with an image for each section"):
        histology(both, image={"left": image}, progress=False)


def test_another_image_is_another_run(both):
    before = data_fingerprint(both)
    both.uns["spatial"]["left"]["images"]["hires"][0, 0] = 7
    assert data_fingerprint(both) != before
