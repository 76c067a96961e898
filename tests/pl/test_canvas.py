"""Figures for files, and texts that look like formulas."""

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

import stmmr
from stmmr import InputError, pl
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


def test_what_no_figure_takes_is_an_input_error(section, tmp_path):
    calls = {
        "save to be a path": lambda: pl.domains(section, domain_key="region", save=True),
        f"a folder to save the figure in, found none at {tmp_path}/none. Make": lambda: pl.domains(
            section, domain_key="region", save=tmp_path / "none" / "f.png"
        ),
        "ax to be axes of matplotlib, found str.": lambda: pl.domains(section, domain_key="region", ax="x"),
        "palette to be a name, a list": lambda: pl.domains(section, domain_key="region", palette=3),
        "cmap to be a colour map of matplotlib": lambda: pl.values(section, "number", cmap="nope"),
        "vmin to be at most vmax, found 3 and 1": lambda: pl.values(section, "number", vmin=3, vmax=1),
        "vmin to be at most vmax, found 99 and": lambda: pl.values(section, "number", vmin=99),
        "categories in obs['number'], found numbers": lambda: pl.domains(section, domain_key="number"),
    }
    section.obs["region"] = pd.Categorical(["a", "b"] * 40)
    section.obs["number"] = np.linspace(0, 1, 80)
    for message, call in calls.items():
        with pytest.raises(InputError, match=f"^Expected {re.escape(message)}"):
            call()


@pytest.mark.parametrize(
    ("draw", "function"),
    [
        (pl.registration, "stmmr.pp.histology"),
        (pl.trajectory, "stmmr.tl.trajectory"),
        (pl.paga, "stmmr.tl.trajectory"),
        (pl.domain_tree, "stmmr.tl.domain_tree"),
        (pl.number_of_domains, "stmmr.tl.number_of_domains"),
        (pl.domains, "stmmr.run"),
    ],
)
def test_what_runs_first_is_named_and_no_other_key(section, draw, function):
    del section.obs["stmmr_domain"]
    section.obs["stmmr_domains"] = section.obs["stmmr_patches"] = "1"
    section.uns["stmmr"] = {"domains": {}, "domain_trees": {}}
    with pytest.raises(InputError) as caught:
        draw(section)
    assert f"Run {function}(adata) first." in str(caught.value)
    assert "Did you mean" not in str(caught.value)


def test_history_names_what_trains(section):
    with pytest.raises(InputError, match=r'default preset trains nothing. Run .*preset="paper"'):
        pl.history(section)
