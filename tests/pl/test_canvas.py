"""Figures for files, and texts that look like formulas."""

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

import stmmr
from stmmr._core import keys
from stmmr.pl.canvas import off_screen

NAMES = ["$x$", r"$\frac{$", "a$b", "_^{}"]


@pytest.fixture
def tissue():
    adata = stmmr.datasets.simulated_tissue(n_rows=8, n_cols=8, n_domains=3, n_genes=5)
    adata.obs[keys.DOMAIN] = [NAMES[i % len(NAMES)] for i in range(adata.n_obs)]
    return adata


@pytest.mark.parametrize("usetex", [False, True])
def test_names_are_no_formulas(tissue, usetex):
    with mpl.rc_context({"text.usetex": usetex}):
        ax = stmmr.pl.domains(tissue)
    ax.figure.canvas.draw()
    named = [text for text in ax.figure.findobj(Text) if text.get_text() in NAMES]
    assert {text.get_text() for text in named} == set(NAMES)
    assert not any(text.get_parse_math() or text.get_usetex() for text in named)
    plt.close(ax.figure)


def test_off_screen_needs_no_backend(tissue, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ImportError("no display")

    monkeypatch.setattr(plt, "figure", fails)
    before = plt.get_fignums()
    with off_screen():
        ax = stmmr.pl.domains(tissue)
    ax.figure.savefig(tmp_path / "domains.png")
    assert (tmp_path / "domains.png").exists()
    assert plt.get_fignums() == before
    with pytest.raises(ImportError, match="no display"):
        stmmr.pl.domains(tissue)


def test_a_notebook_stays_interactive_after_its_first_figure(tissue, monkeypatch):
    """The backend of a notebook switches matplotlib to interactive while the first figure is made."""
    make = plt.figure
    monkeypatch.setattr(plt, "figure", lambda *args, **options: mpl.interactive(True) or make(*args, **options))
    monkeypatch.setitem(mpl.rcParams, "interactive", False)
    stmmr.pl.domains(tissue)
    assert mpl.is_interactive()
