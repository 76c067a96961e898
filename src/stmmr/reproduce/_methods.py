"""The rows of the table: the linear baseline, the default, and the published model with its settings."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import psutil
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import logger
from stmmr._core.counts import raw_counts
from stmmr._core.record import recorded
from stmmr.pipeline.run import BATCH, FULL_BATCH_AT_MOST, run
from stmmr.reproduce._layout import FEATURES
from stmmr.reproduce._options import Preset
from stmmr.reproduce._recipes import AUTHORS_SEED
from stmmr.settings import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData

    from stmmr.reproduce._layout import Section
    from stmmr.reproduce._recipes import Published

SCALED: Final = "X_scaled"
"""``obsm``: counts scaled to 10,000 a place, without a logarithm."""
ONE: Final = "stmmr_one"
"""``obs``: 1 at every place, as a library size that normalises nothing."""
TOTAL: Final = 1e4
MIN_PLACES: Final = 3
SAMPLE_SECONDS: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a row of the table is asked to be."""

    preset: Preset
    seed: int
    published: Published
    """Settings of the authors, or with fewer epochs or a smaller width where that was asked for."""
    pseudotime: bool
    root_domain: str | None = None
    reduced: str = ""
    """What is less than the authors took."""
    progress: bool = False

    @property
    def random_state(self) -> int:
        """Seed of everything that is drawn; the first is that of the authors."""
        return AUTHORS_SEED + self.seed


def measured(
    section: Section, asked: Asked, *, checkpoint: Path | None = None, figure: Path | None = None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Run one preset once on one section, and say how long it took and how much memory.

    Parameters
    ----------
    section
        With everything but its labels.
    asked
        What to run.
    checkpoint
        File that keeps the training of `paper` until it is done.
    figure
        File for a picture of the pseudotime, where the recipe has one.

    Returns
    -------
    What is known of the run, and the domains by place (with the pseudotime, where the recipe has one).
    """
    adata = section.adata.copy()
    start, notes = time.perf_counter(), list(section.notes)
    going_on = checkpoint is not None and checkpoint.exists()
    with peak_memory() as memory:
        facts = _RUN[asked.preset](adata, section, asked, checkpoint)
        found = adata.obs[[facts.pop("domain_key")]].set_axis(["domain"], axis=1)
        if asked.pseudotime and keys.EMBEDDING in adata.obsm and found["domain"].nunique() > 1:
            found = found.join(_pseudotime(adata, asked, found["domain"], notes))
            if figure is not None:
                _draw(adata, figure)
    if going_on:
        notes.append("went on after an interruption: seconds since then")
    steps = recorded(adata)
    facts |= {
        "places": adata.n_obs,
        "genes_read": steps.get("expression", {}).get("n_genes_read", facts.get("genes_read")),
        "domains": found["domain"].nunique(),
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": round(max(memory), 1),
        "notes": "; ".join(notes + facts.pop("notes", [])),
    }
    return facts, found


def _run_baseline(adata: AnnData, section: Section, asked: Asked, _: Path | None) -> dict[str, Any]:
    """Run the baseline: components smoothed over one distance between places, whitened, a tied mixture."""
    from stmmr import pp
    from stmmr.reproduce._baseline import linear_baseline

    pp.expression(adata, size_key=section.size_key, section_key=section.section_key)
    if section.section_key:
        pp.spatial_graph(adata, section_key=section.section_key)
    found = linear_baseline(adata, section.n_domains, seed=asked.random_state)
    adata.obs[keys.DOMAIN] = pd.Categorical((found + 1).astype(str))
    return {"domain_key": keys.DOMAIN, "picture": "not read"}


def _run_default(adata: AnnData, section: Section, asked: Asked, _: Path | None) -> dict[str, Any]:
    """Run what `stmmr run` does; of the paper it takes the number of domains, or not even that."""
    blocks, picture = _picture(adata)
    run(
        adata,
        n_domains="auto" if asked.preset == "auto" else section.n_domains,
        histology=picture == "he",
        blocks=blocks,
        size_key=section.size_key,
        section_key=section.section_key,
        random_state=asked.random_state,
        progress=asked.progress,
    )
    return {"domain_key": keys.DOMAIN, "picture": picture} | _graph(adata)


def _run_paper(adata: AnnData, section: Section, asked: Asked, checkpoint: Path | None) -> dict[str, Any]:
    """Run the published model with the authors' settings, after the last of its epochs."""
    from stmmr import pp, tl
    from stmmr.model import StMMR

    published = asked.published
    blocks, picture = _picture(adata)
    read = _expression(adata, section, published)
    if published.pixels_as_array:
        adata.obs[keys.ARRAY_COL], adata.obs[keys.ARRAY_ROW] = adata.obsm[keys.SPATIAL][:, :2].T
    pp.spatial_graph(adata, use="array", bandwidth=published.bandwidth, section_key=section.section_key)
    if picture == "he":
        pp.histology(adata, progress=asked.progress)
    shape = {
        "preset": "paper",
        "use_histology": picture == "he",
        "blocks": blocks,
        "random_state": asked.random_state,
        "learning_rate": published.learning_rate,
        "steps": published.epochs,
        "likelihood_loss": published.likelihood_loss,
        **dict.fromkeys(("hidden", "latent", "decoder_hidden"), published.width),
        **read,
    }
    if adata.n_obs > FULL_BATCH_AT_MOST:
        shape["batch_size"] = BATCH
    StMMR(adata, progress=asked.progress, **shape).fit(progress=asked.progress, checkpoint=checkpoint)
    tl.domains(adata, section.n_domains, method="kmeans", whiten=False, random_state=asked.random_state)
    key = keys.DOMAIN
    if published.vote:
        key = keys.DOMAIN_REFINED
        tl.refine(adata, n_neighbors=min(published.vote, adata.n_obs - 1), key_added=key)
    facts = {"domain_key": key, "picture": picture} | _graph(adata)
    if read:
        facts["genes_read"] = adata.obsm[SCALED].shape[1]
    if adata.n_obs > FULL_BATCH_AT_MOST:
        facts["notes"] = [*facts["notes"], f"in batches of {BATCH} places, which the authors read all at once"]
    if asked.reduced:
        facts["notes"] = [*facts["notes"], asked.reduced]
    return facts


_RUN: Final[dict[str, Callable[[AnnData, Section, Asked, Path | None], dict[str, Any]]]] = {
    "baseline": _run_baseline,
    "default": _run_default,
    "auto": _run_default,
    "paper": _run_paper,
}


def _expression(adata: AnnData, section: Section, published: Published) -> dict[str, Any]:
    """Prepare the values as the authors did; get the settings of the model that go with them."""
    from stmmr import pp

    n_top_genes = adata.n_vars if published.all_genes else 3000
    if published.values != "total":
        size_key = section.size_key
        if published.values == "log":
            size_key = ONE
            adata.obs[ONE] = 1.0
        pp.expression(adata, size_key=size_key, n_top_genes=n_top_genes)
        return {}
    counts = sparse.csr_matrix(raw_counts(adata, None)[1])
    counts = counts[:, counts.getnnz(axis=0) >= MIN_PLACES]
    size = np.asarray(counts.sum(axis=1)).ravel()
    adata.obsm[SCALED] = (counts.toarray() * (TOTAL / np.maximum(size, 1))[:, None]).astype(np.float32)
    return {"use_rep": SCALED, "likelihood": "zinb"}


def _picture(adata: AnnData) -> tuple[dict[str, Block] | None, str]:
    """Say what stands for the picture: the authors' features, else what is measured in the picture, else nothing."""
    from stmmr import pp

    if FEATURES in adata.obsm:
        return {"vit": Block(FEATURES)}, "authors' features"
    return None, "he" if pp.has_image(adata) else "none"


def _graph(adata: AnnData) -> dict[str, Any]:
    """Note how wide the graph is, and whether it links anything."""
    graph = recorded(adata)["spatial_graph"]
    neighbours = float(graph["mean_neighbours"])
    notes = ["no place has a neighbour within this bandwidth"] if neighbours < 0.5 else []
    return {
        "bandwidth": float(f"{graph['bandwidth']:.4g}"),
        "unit": "pixels" if _in_pixels(adata) else str(graph["unit"]),
        "neighbours": round(neighbours, 2),
        "notes": notes,
    }


def _in_pixels(adata: AnnData) -> bool:
    """Tell whether the array positions are those of pixels."""
    columns = [keys.ARRAY_COL, keys.ARRAY_ROW]
    if recorded(adata)["spatial_graph"]["use"] != "array" or keys.SPATIAL not in adata.obsm:
        return False
    return bool(np.array_equal(adata.obs[columns].to_numpy(np.float64), adata.obsm[keys.SPATIAL][:, :2]))


def _pseudotime(adata: AnnData, asked: Asked, domains: pd.Series, notes: list[str]) -> pd.DataFrame:
    """Order the places along pseudotime, from the domain that was named or by the rule of `tl.trajectory`."""
    from stmmr import tl

    root = asked.root_domain if asked.root_domain in set(domains) else None
    tl.trajectory(adata, root_domain=root, random_state=asked.random_state)
    said = recorded(adata)["trajectory"]
    notes.append(f"pseudotime from domain {said['root_domain']} ({'named' if root else 'by rule'})")
    found: pd.DataFrame = adata.obs[[keys.PSEUDOTIME, keys.BRANCH]].set_axis(["pseudotime", "branch"], axis=1)
    return found


def _draw(adata: AnnData, target: Path) -> None:
    """Draw the pseudotime in the tissue."""
    from matplotlib import pyplot as plt

    from stmmr import pl
    from stmmr._core.files import atomic_write

    figure = pl.values(adata, keys.PSEUDOTIME, vmin=0, vmax=1).get_figure(root=True)
    assert figure is not None  # noqa: S101 - axes just drawn
    target.parent.mkdir(exist_ok=True)
    with atomic_write(target) as new:
        figure.savefig(new, dpi=150, bbox_inches="tight")
    plt.close(figure)


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Sample the memory of this process, in MB, while the body runs; the list fills as it goes."""
    process, stop = psutil.Process(), threading.Event()
    found = [process.memory_info().rss / 1e6]

    def watch() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            found[0] = max(found[0], process.memory_info().rss / 1e6)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def reduced(published: Published, *, epochs: int | None, width: int | None) -> tuple[Published, str]:
    """Take fewer epochs or a smaller width than the authors, and say so."""
    found = replace(published, epochs=epochs or published.epochs, width=width or published.width)
    pairs = {"epochs": (found.epochs, published.epochs), "width": (found.width, published.width)}
    said = ", ".join(f"{name} {now} instead of {then}" for name, (now, then) in pairs.items() if now != then)
    if said:
        said = f"not the published model: {said}"
        logger.warning("The rows of paper are %s.", said)
    return found, said
