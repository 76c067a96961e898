"""Run the presets of the table: the linear baseline, the default, and the published model."""

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
from stmmr._core.kernel import nearest_in_chunks
from stmmr._core.raw import raw_counts
from stmmr._core.record import recorded
from stmmr._core.space import rows_called
from stmmr.pipeline.run import BATCH, FULL_BATCH_AT_MOST, run
from stmmr.reproduce._layout import FEATURES
from stmmr.reproduce._options import Preset
from stmmr.reproduce._recipes import AUTHORS_SEED
from stmmr.settings import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.reproduce._layout import Section
    from stmmr.reproduce._recipes import Published

SCALED: Final = "X_scaled"
"""``obsm``: counts scaled to a total of 10,000 in each spot, without a logarithm."""
ONE: Final = "stmmr_one"
"""``obs``: 1 for every spot, as a library size that leaves counts as they are."""
LEADING: Final = "emb_pca"
"""``obsm``: the leading principal components of the embedding of "paper", named as by the authors."""
TOTAL: Final = 1e4
MIN_SPOTS: Final = 3
SAMPLE_SECONDS: Final = 0.02
"""Time between two measurements of the memory."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run: a preset with a seed."""

    preset: Preset
    seed: int
    published: Published
    """Settings of the authors, with fewer epochs or a smaller width if the options say so."""
    pseudotime: bool
    root_domain: str | None = None
    reduced: str = ""
    """Note about settings that were reduced."""
    progress: bool = False

    @property
    def random_state(self) -> int:
        """Seed of all random numbers; the first is that of the authors."""
        return AUTHORS_SEED + self.seed


def run_preset(
    section: Section, spec: RunSpec, *, checkpoint: Path | None = None, figure: Path | None = None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Run one preset on one section, and measure time and memory.

    Parameters
    ----------
    section
        The data, without labels.
    spec
        The run.
    checkpoint
        File that keeps the training of "paper" until it is finished.
    figure
        File for a figure of the pseudotime, if the recipe has one.

    Returns
    -------
    Facts about the run for the table, and the domain of each spot, with its pseudotime if the recipe has one.
    """
    adata = section.adata.copy()
    start, notes = time.perf_counter(), list(section.notes)
    resumed = checkpoint is not None and checkpoint.exists()
    with peak_memory() as memory:
        facts = _RUN[spec.preset](adata, section, spec, checkpoint)
        domains = adata.obs[[facts.pop("domain_key")]].set_axis(["domain"], axis=1)
        if spec.pseudotime and keys.EMBEDDING in adata.obsm and domains["domain"].nunique() > 1:
            domains = domains.join(_pseudotime(adata, spec, domains["domain"], notes))
            if figure is not None:
                _draw(adata, figure)
    if resumed:
        notes.append("resumed after an interruption: seconds since then")
    steps = recorded(adata)
    facts |= {
        "n_spots": adata.n_obs,
        "genes_read": steps.get("expression", {}).get("n_genes_read", facts.get("genes_read")),
        "domains": domains["domain"].nunique(),
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": round(max(memory), 1),
        "notes": "; ".join(notes + facts.pop("notes", [])),
    }
    return facts, domains.rename_axis(index=rows_called(adata)[:-1])


def _run_baseline(adata: AnnData, section: Section, spec: RunSpec, _: Path | None) -> dict[str, Any]:
    """Run the linear baseline."""
    from stmmr import pp
    from stmmr.reproduce._baseline import linear_baseline

    pp.expression(adata, size_key=section.size_key, section_key=section.section_key)
    if section.section_key:
        pp.spatial_graph(adata, section_key=section.section_key)
    domains = linear_baseline(adata, section.n_domains, seed=spec.random_state)
    adata.obs[keys.DOMAIN] = pd.Categorical((domains + 1).astype(str))
    return {"domain_key": keys.DOMAIN, "image": "not read"}


def _run_default(adata: AnnData, section: Section, spec: RunSpec, _: Path | None) -> dict[str, Any]:
    """Run `stmmr.run`, with the number of domains of the paper unless the preset is "auto"."""
    blocks, image = _image_blocks(adata)
    run(
        adata,
        n_domains="auto" if spec.preset == "auto" else section.n_domains,
        histology=image == "he",
        blocks=blocks,
        size_key=section.size_key,
        section_key=section.section_key,
        random_state=spec.random_state,
        progress=spec.progress,
    )
    return {"domain_key": keys.DOMAIN, "image": image} | _graph(adata)


def _run_paper(adata: AnnData, section: Section, spec: RunSpec, checkpoint: Path | None) -> dict[str, Any]:
    """Run the published model with the authors' settings, up to its last epoch."""
    from stmmr import pp, tl
    from stmmr.model import StMMR

    published = spec.published
    blocks, image = _image_blocks(adata)
    expression = _expression(adata, section, published)
    if published.pixels_as_array:
        adata.obs[keys.ARRAY_COL], adata.obs[keys.ARRAY_ROW] = adata.obsm[keys.SPATIAL][:, :2].T
    pp.spatial_graph(adata, use="array", bandwidth=published.bandwidth, section_key=section.section_key)
    if image == "he":
        pp.histology(adata, progress=spec.progress)
    settings = {
        "preset": "paper",
        "use_histology": image == "he",
        "blocks": blocks,
        "random_state": spec.random_state,
        "learning_rate": published.learning_rate,
        "steps": published.epochs,
        "likelihood_loss": published.likelihood_loss,
        **dict.fromkeys(("hidden", "latent", "decoder_hidden"), published.width),
        **expression,
    }
    in_batches = adata.n_obs > FULL_BATCH_AT_MOST
    if in_batches:
        settings["batch_size"] = BATCH
    StMMR(adata, progress=spec.progress, **settings).fit(progress=spec.progress, checkpoint=checkpoint)
    tl.domains(adata, section.n_domains, method="kmeans", whiten=False, random_state=spec.random_state)
    key = keys.DOMAIN
    if published.vote:
        key = keys.DOMAIN_REFINED
        xy = np.asarray(adata.obsm[keys.SPATIAL], dtype=np.float64)[:, :2]
        domains = adata.obs[keys.DOMAIN].cat
        refined = authors_vote(domains.codes.to_numpy(), xy, n_neighbors=min(published.vote, adata.n_obs - 1))
        adata.obs[key] = pd.Categorical.from_codes(refined, categories=domains.categories)
    adata.obsm[LEADING] = leading_components(adata.obsm[keys.EMBEDDING], random_state=spec.random_state)
    facts = {"domain_key": key, "image": image} | _graph(adata)
    if expression:
        facts["genes_read"] = adata.obsm[SCALED].shape[1]
    if in_batches:
        facts["notes"] += [f"in batches of {BATCH} {rows_called(adata)}; the authors used all at once"]
    if spec.reduced:
        facts["notes"] += [spec.reduced]
    return facts


def authors_vote(codes: NDArray[np.integer], xy: NDArray[np.float64], *, n_neighbors: int) -> NDArray[np.integer]:
    """Give each spot the domain of most of its nearest spots, at any distance and without itself, as the authors do.

    Of domains with as many votes, the one of the nearest spot is taken.

    Parameters
    ----------
    codes
        Domain of each spot, shape (N,), from 0.
    xy
        Coordinates, shape (N, 2).
    n_neighbors
        Number of spots that vote, below N.
    """
    voted = np.empty_like(codes)
    for spots, nearest_first in nearest_in_chunks(xy, n_neighbors):
        ballots = codes[nearest_first]  # (n, k)
        votes = (ballots[:, :, None] == np.arange(codes.max() + 1)).sum(axis=1)  # (n, K)
        has_most = np.take_along_axis(votes, ballots, axis=1) == votes.max(axis=1, keepdims=True)
        voted[spots] = ballots[np.arange(len(spots)), has_most.argmax(axis=1)]
    return voted


def leading_components(embedding: NDArray[np.float32], *, random_state: int) -> NDArray[np.float32]:
    """Compute the 20 leading principal components of Z, which the authors' pseudotime reads; shape (N, ≤ 20)."""
    from sklearn.decomposition import PCA

    scores = PCA(min(20, *embedding.shape), random_state=random_state).fit_transform(embedding)
    return np.asarray(scores, dtype=np.float32)


_RUN: Final[dict[Preset, Callable[[AnnData, Section, RunSpec, Path | None], dict[str, Any]]]] = {
    "baseline": _run_baseline,
    "default": _run_default,
    "auto": _run_default,
    "paper": _run_paper,
}


def _expression(adata: AnnData, section: Section, published: Published) -> dict[str, Any]:
    """Prepare expression as the authors did, and get the matching settings of the model."""
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
    counts = counts[:, counts.getnnz(axis=0) >= MIN_SPOTS]
    size = np.asarray(counts.sum(axis=1)).ravel()
    adata.obsm[SCALED] = (counts.toarray() * (TOTAL / np.maximum(size, 1))[:, None]).astype(np.float32)
    return {"use_rep": SCALED, "likelihood": "zinb"}


def _image_blocks(adata: AnnData) -> tuple[dict[str, Block] | None, str]:
    """Choose image features: those of the authors if they exist, otherwise those of "he", otherwise none.

    Returns
    -------
    Block of the authors' features, and the source for the table: "authors' features", "he" or "none".
    """
    from stmmr import pp

    if FEATURES in adata.obsm:
        return {"vit": Block(FEATURES)}, "authors' features"
    return None, "he" if pp.has_image(adata) else "none"


def _graph(adata: AnnData) -> dict[str, Any]:
    """Get bandwidth and mean number of neighbours of the graph, with a note if there are none."""
    graph = recorded(adata)["spatial_graph"]
    neighbours = float(graph["mean_neighbours"])
    notes = [f"hardly any {rows_called(adata)} have a neighbour at this bandwidth"] if neighbours < 0.5 else []
    return {
        "bandwidth": float(f"{graph['bandwidth']:.4g}"),
        "unit": "pixels" if _in_pixels(adata) else str(graph["unit"]),
        "neighbours": round(neighbours, 2),
        "notes": notes,
    }


def _in_pixels(adata: AnnData) -> bool:
    """Check whether the graph uses pixels as array positions."""
    columns = [keys.ARRAY_COL, keys.ARRAY_ROW]
    if recorded(adata)["spatial_graph"]["use"] != "array" or keys.SPATIAL not in adata.obsm:
        return False
    return bool(np.array_equal(adata.obs[columns].to_numpy(np.float64), adata.obsm[keys.SPATIAL][:, :2]))


def _pseudotime(adata: AnnData, spec: RunSpec, domains: pd.Series, notes: list[str]) -> pd.DataFrame:
    """Compute pseudotime and branch of each spot, from the root domain of the options or of `stmmr.tl.trajectory`."""
    from stmmr import tl

    root = spec.root_domain if spec.root_domain in set(domains) else None
    use_rep = LEADING if LEADING in adata.obsm else keys.EMBEDDING
    tl.trajectory(adata, root_domain=root, use_rep=use_rep, random_state=spec.random_state)
    used = recorded(adata)["trajectory"]["root_domain"]
    notes.append(f"pseudotime from domain {used} ({'from the options' if root else 'chosen by stmmr.tl.trajectory'})")
    pseudotime: pd.DataFrame = adata.obs[[keys.PSEUDOTIME, keys.BRANCH]].set_axis(["pseudotime", "branch"], axis=1)
    return pseudotime


def _draw(adata: AnnData, target: Path) -> None:
    """Draw the pseudotime on the tissue."""
    from stmmr import pl
    from stmmr._core.files import atomic_write
    from stmmr.pl.canvas import off_screen

    with off_screen():
        figure = pl.values(adata, keys.PSEUDOTIME, vmin=0, vmax=1).get_figure(root=True)
    assert figure is not None  # noqa: S101 - axes just drawn
    target.parent.mkdir(exist_ok=True)
    with atomic_write(target) as new:
        figure.savefig(new, dpi=150, bbox_inches="tight")


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Measure the peak memory of this process, in MB, while the body runs; the one entry of the list is updated."""
    process, stop = psutil.Process(), threading.Event()
    peak = [process.memory_info().rss / 1e6]

    def watch() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], process.memory_info().rss / 1e6)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def reduced(published: Published, *, epochs: int | None, width: int | None) -> tuple[Published, str]:
    """Change the epochs or the width of the published settings; get a note about the change, "" without one."""
    changed = replace(published, epochs=epochs or published.epochs, width=width or published.width)
    pairs = {"epochs": (changed.epochs, published.epochs), "width": (changed.width, published.width)}
    note = ", ".join(f"{name} {now} instead of {then}" for name, (now, then) in pairs.items() if now != then)
    if note:
        note = f"not the published model: {note}"
        logger.warning("Rows of the preset paper are %s.", note)
    return changed, note
