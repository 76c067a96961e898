"""Figures as journals take them: sizes in mm, files, fonts, colours of the user, grids."""

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from PIL import Image

from stmmr import InputError, pl


@pytest.fixture
def genes(section):
    """The section with counts of three genes."""
    counts = np.random.default_rng(0).poisson(2, (80, 3)).astype(np.float32)
    adata = type(section)(counts, obs=section.obs, obsm=dict(section.obsm))
    adata.var_names = ["A", "B", "C"]
    return adata


def legend_colors(ax):
    return {
        text.get_text(): to_rgb(handle.get_color())
        for text, handle in zip(ax.get_legend().get_texts(), ax.get_legend().legend_handles, strict=True)
    }


@pytest.mark.parametrize(("width", "mm"), [("single", 89), ("double", 183), (120, 120)])
@pytest.mark.parametrize("draw", [pl.domains, pl.embedding])
def test_width_is_that_of_a_column(section, tmp_path, width, mm, draw):
    draw(section, width=width, save=tmp_path / "figure.png")
    image = Image.open(tmp_path / "figure.png")
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert image.width / 300 * 25.4 == pytest.approx(mm, abs=0.2)
    ink = np.flatnonzero((np.asarray(image.convert("L")) < 250).any(axis=1))
    assert ink[0] < 0.05 * image.height  # nothing is left empty above and below
    assert ink[-1] > 0.95 * image.height


def test_files_have_text_and_fonts(section, tmp_path):
    for kind in ("svg", "pdf"):
        pl.domains(section, save=tmp_path / f"figure.{kind}", width="single")
    svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert re.search(r"<text[^>]*>Domain</text>", svg)
    assert float(re.search(r'width="([\d.]+)pt"', svg)[1]) / 72 * 25.4 == pytest.approx(89, abs=0.01)
    assert b"/FontFile2" in (tmp_path / "figure.pdf").read_bytes()  # TrueType, embedded
    again = tmp_path / "again.svg"
    pl.domains(section, save=again, width="single")
    assert again.read_text(encoding="utf-8") == svg


def test_what_cannot_be_saved_is_said(section, tmp_path):
    with pytest.raises(InputError, match=r"\.png, .*found figure\.docx"):
        pl.domains(section, save=tmp_path / "figure.docx")
    assert not list(tmp_path.iterdir())
    for width in ("triple", 0, True):
        with pytest.raises(InputError, match="Expected width"):
            pl.domains(section, width=width)


@pytest.mark.parametrize(
    ("palette", "expected"),
    [
        (["red", "#00ff00", "blue"], ["red", "lime", "blue"]),
        ({"3": "black", "1": "white", "2": "red", "other": "green"}, ["white", "red", "black"]),
        ("tab10", [mpl.colormaps["tab10"](i) for i in range(3)]),
        ("viridis", [mpl.colormaps["viridis"](x) for x in (0, 0.5, 1.0)]),
    ],
)
def test_palette(section, palette, expected):
    for draw in (pl.domains, pl.embedding):
        assert list(legend_colors(draw(section, palette=palette)).values()) == [to_rgb(color) for color in expected]
    assert "stmmr_domain_colors" not in section.uns


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        (["red"], "at least 3 colours"),
        ({"1": "red", "2": "blue"}, "none for 3"),
        ("viridiss", "Did you mean 'viridis'"),
        (["red", "blue", "no colour"], "'no colour'"),
    ],
)
def test_palette_that_does_not_fit(section, palette, message):
    with pytest.raises(InputError, match=message):
        pl.domains(section, palette=palette)
    plt.close("all")
    assert pl.domains(section)  # nothing of it is left


def test_a_list_of_genes_is_a_grid(genes, tmp_path):
    axes = pl.values(genes, ["A", "B", "C"], ncols=2, save=tmp_path / "grid.png")
    assert [ax.child_axes[0].get_title(loc="left") for ax in axes] == ["A", "B", "C"]
    assert len({ax.figure for ax in axes}) == 1
    assert [ax.get_subplotspec().colspan.start for ax in axes] == [0, 1, 0]
    assert len(pl.values(genes, ["A"])) == 1
    for key, options in (([], {}), (["A", "B"], {"ax": plt.gca()})):
        with pytest.raises(InputError, match="Expected names of genes or columns"):
            pl.values(genes, key, **options)
    with pytest.raises(InputError, match="'D'"):
        pl.values(genes, ["A", "D"])
    with pytest.raises(InputError, match="ncols"):
        pl.values(genes, ["A", "B"], ncols=0)


def test_show_returns_nothing(section, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    assert pl.domains(section, show=True) is None
    assert shown == [1]
    assert pl.domains(section, show=False) is not None
    assert shown == [1]


def test_theme_leaves_settings_and_axes_of_the_user(section):
    before = dict(mpl.rcParams)
    ax = pl.embedding(section)
    assert dict(mpl.rcParams) == before
    assert ax.xaxis.label.get_fontsize() == 7
    _, mine = plt.subplots()
    assert pl.embedding(section, ax=mine).xaxis.label.get_fontsize() == 10
    with mpl.rc_context({"font.size": 12}):
        assert pl.embedding(section).xaxis.label.get_fontsize() == 12


def test_names_are_written_into_the_map_on_spots_of_their_domain(section):
    ax = pl.domains(section)
    at = {text.get_text(): text.get_position() for text in ax.texts}
    assert list(at) == ["1", "2", "3"]
    for name, position in at.items():
        nearest = np.hypot(*(section.obsm["spatial"] - position).T).argmin()
        assert section.obs["stmmr_domain"].iloc[nearest] == name
    assert not pl.domains(section, labels=False).texts
    section.obs["stmmr_domain"] = section.obs["stmmr_domain"].cat.rename_categories({"1": "white matter"})
    assert not pl.domains(section).texts
    assert len(pl.domains(section, labels=True).texts) == 3


def test_elongated_tissue_is_no_thin_strip(section):
    section.obsm["spatial"] *= [4, 1]
    width, height = pl.domains(section).figure.get_size_inches()
    assert width < 7.3  # two columns
    assert height > 1.2


def test_key_of_the_graph_of_domains(section):
    section.uns["stmmr"] = {
        "trajectory": {
            "domains": ["1", "2", "3"],
            "domain_key": "stmmr_domain",
            "root_domain": "1",
            "connectivities": np.ones((3, 3)) * 0.5,
            "tree": np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0.0]]),
        }
    }
    ax = pl.paga(section)
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries[:4] == ["connectivity 1", "connectivity 0.5", "connectivity 0.1", "not in the tree"]
    largest = section.obs["stmmr_domain"].value_counts().iloc[0]
    assert entries[4:] == [f"{largest} cells", "1 cell", "root"]
    handles = ax.get_legend().legend_handles
    assert handles[4].get_markersize() ** 2 == pytest.approx(ax.collections[0].get_sizes().max())
    assert isinstance(section.obs["stmmr_domain"].dtype, pd.CategoricalDtype)
