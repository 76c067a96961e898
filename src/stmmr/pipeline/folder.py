"""What lies in a folder of results: tables, figures, the data, the report and what the run says about itself."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.record import recorded
from stmmr.pipeline.analyses import facts_of
from stmmr.pipeline.asked import section_key_of
from stmmr.pipeline.run import peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

    from stmmr.pipeline.asked import Analyses

logger = logging.getLogger("stmmr")
MODEL: Final = "model"
CONTENTS: Final = {
    "report.html": "all of it on one page, to open in a browser and to send to others",
    "result.h5ad": "the data with embedding, domains and everything that was set",
    "result.zarr": "the data with embedding, domains and everything that was set",
    "spatialdata.zarr": "the same, with the picture, for squidpy, spatialdata-plot and napari-spatialdata",
    "domains.csv": "one row per place: its section where there are several, its domain, how sure it is, and the domain "
    "after the vote of its neighbours",
    "run.json": "settings, versions, times, peak memory",
    MODEL: "the trained model, for stmmr map and denoised expression",
    "domains.png": "the domains over the picture",
    "confidence.png": "how sure the domain of each place is",
    "domains_refined.png": "the same after the vote",
    "embedding.png": "the embedding as a UMAP",
    "training.png": "the training curve",
    "number_of_domains.png": "the curve that the number of domains was chosen on",
    "bandwidth.png": "the curve that the bandwidth of the graph was chosen on",
    "domain_genes.csv": "genes that are higher in a domain than in its neighbours or the rest, best first",
    "domain_genes.png": "the leading genes of each domain",
    "spatially_variable_genes.csv": "Moran's I of each gene, highest first",
    "domain_genes_pseudobulk.csv": "genes of each domain, with sections as replicates",
    "enrichment.csv": "gene sets in which the genes of each domain are",
    "enrichment.png": "the gene sets that stand out in each domain",
    "composition.csv": "places of every domain in every section",
    "composition.png": "the share of each section that every domain makes up",
    "composition_tests.csv": "how groups of sections differ in their domains",
    "trajectory.png": "pseudotime in the tissue, its root as a star",
    "paga.png": "which domains lead to which",
    "gene_trends.csv": "genes along pseudotime, and how sure it is that they change",
    "gene_trends.png": "genes along pseudotime: the two surest of those that peak early, midway and late",
}
"""Everything there can be, and what it is."""
OF_ANALYSES: Final = frozenset(list(CONTENTS)[list(CONTENTS).index("domain_genes.csv") :])
"""What analyses write besides their part of the data."""
MAX_PVAL_ADJ: Final = 0.05
"""Adjusted p-value up to which a gene of a domain is in the table; all are in the data."""
LONG: Final = 1_000
"""Entries of an array that run.json holds; longer ones are in the data."""
_MORAN: Final = {
    keys.MORAN_I: "morans_i",
    keys.MORAN_Z: "z",
    keys.MORAN_P: "pval",
    keys.MORAN_P_ADJUSTED: "pval_adj",
}
_PLACES: Final = {
    keys.DOMAIN: "domain",
    keys.CONFIDENCE: "confidence",
    keys.DOMAIN_REFINED: "domain_refined",
    keys.PSEUDOTIME: "pseudotime",
    keys.BRANCH: "branch",
}


def write_results(adata: AnnData, folder: Path, *, source: Path | None = None) -> dict[str, Exception]:
    """Write the tables, the figures and the data, whose counts are in `source` where they stayed there.

    Returns
    -------
    The errors of figures of analyses that could not be drawn, by their names.
    """
    from stmmr import tl

    tl.umap(adata)
    write_tables(adata, folder)
    failed = write_figures(adata, folder)
    write_data(adata, folder, source=source)
    return failed


def write_tables(adata: AnnData, folder: Path) -> None:
    """Write the table of the places, and those of the analyses that there are."""
    table = adata.obs[[key for key in _PLACES if key in adata.obs]].rename(columns=_PLACES)
    if (key := section_key_of(adata)) is not None:
        table.insert(0, "section", adata.obs[key].to_numpy())
    table.rename_axis(index="place").to_csv(folder / "domains.csv")
    for name, table in _tables(adata).items():
        table.to_csv(folder / name, index=False, float_format="%.6g")


def _tables(adata: AnnData) -> dict[str, pd.DataFrame]:
    """Get the tables of analyses, by the name of their file."""
    tables: dict[str, pd.DataFrame] = {}
    if keys.DOMAIN_GENES in adata.uns:
        every = adata.uns[keys.DOMAIN_GENES]
        tables["domain_genes.csv"] = every[(every["z"] > 0) & (every["pval_adj"] < MAX_PVAL_ADJ)]
    if keys.MORAN_I in adata.var:
        moran = adata.var[list(_MORAN)].rename(columns=_MORAN).rename_axis(index="gene").reset_index()
        tables["spatially_variable_genes.csv"] = moran.sort_values("morans_i", ascending=False, kind="stable")
    kept = {
        "domain_genes_pseudobulk.csv": keys.DOMAIN_GENES_PSEUDOBULK,
        "enrichment.csv": keys.ENRICHMENT,
        "composition.csv": keys.COMPOSITION,
        "composition_tests.csv": keys.COMPOSITION_TESTS,
    }
    tables |= {name: adata.uns[key] for name, key in kept.items() if key in adata.uns}
    if "gene_trends" in recorded(adata):
        tables["gene_trends.csv"] = recorded(adata)["gene_trends"]["table"].rename_axis(index="gene").reset_index()
    return tables


def write_figures(adata: AnnData, folder: Path, *, only: Collection[str] = CONTENTS.keys()) -> dict[str, Exception]:
    """Draw what there is, as far as its name is among `only`; get the errors of those of analyses that failed."""
    failed: dict[str, Exception] = {}
    for name, draw in _figures(adata).items():
        if name not in only:
            continue
        try:
            _save(draw, folder / name)
        except Exception as error:
            if name not in OF_ANALYSES:
                raise
            logger.warning("%s could not be drawn: %s", name, error)
            failed[name] = error
    return failed


def _save(draw: Callable[[], Axes], target: Path) -> None:
    from matplotlib import pyplot as plt

    figure = draw().get_figure(root=True)
    assert figure is not None  # noqa: S101 - axes just drawn
    figure.savefig(target, dpi=200, bbox_inches="tight")
    plt.close(figure)


def _figures(adata: AnnData) -> dict[str, Callable[[], Axes]]:
    """Get how everything that there is is drawn, by the name of its file."""
    from stmmr import pl

    steps = recorded(adata)
    figures: dict[str, tuple[bool, Callable[[], Axes]]] = {
        "domains.png": (True, lambda: pl.domains(adata)),
        "confidence.png": (True, lambda: pl.values(adata, keys.CONFIDENCE, vmin=0, vmax=1)),
        "domains_refined.png": (True, lambda: pl.domains(adata, domain_key=keys.DOMAIN_REFINED)),
        "embedding.png": (True, lambda: pl.embedding(adata)),
        "training.png": ("history" in steps, lambda: pl.history(adata)),
        "bandwidth.png": ("bandwidths_tried" in steps["spatial_graph"], lambda: pl.bandwidth(adata)),
        "number_of_domains.png": ("number_of_domains" in steps, lambda: pl.number_of_domains(adata)),
        "domain_genes.png": (_leads(adata), lambda: pl.domain_genes(adata)),
        "enrichment.png": (_stands_out(adata), lambda: pl.enrichment(adata)),
        "composition.png": (keys.COMPOSITION in adata.uns, lambda: pl.composition(adata)),
        "trajectory.png": ("trajectory" in steps, lambda: pl.trajectory(adata)),
        "paga.png": ("trajectory" in steps, lambda: pl.paga(adata)),
        "gene_trends.png": ("gene_trends" in steps, lambda: pl.gene_trends(adata)),
    }
    return {name: draw for name, (there, draw) in figures.items() if there}


def _leads(adata: AnnData) -> bool:
    """Tell whether a gene is higher in a domain than in the rest."""
    return keys.DOMAIN_GENES in adata.uns and bool((adata.uns[keys.DOMAIN_GENES]["z"] > 0).any())


def _stands_out(adata: AnnData) -> bool:
    """Tell whether a gene set is found in a domain more often than by chance."""
    return keys.ENRICHMENT in adata.uns and bool((adata.uns[keys.ENRICHMENT]["pval_adj"] <= MAX_PVAL_ADJ).any())


def write_data(adata: AnnData, folder: Path, *, source: Path | None = None) -> None:
    """Write the data, whose counts are in `source` where they stayed there."""
    from stmmr.io._tables import write_beside_counts, write_h5ad

    if source is None:
        write_h5ad(adata, folder / "result.h5ad")
    else:
        write_beside_counts(adata, source, folder / ("result.zarr" if source.is_dir() else "result.h5ad"))


def write_spatialdata(adata: AnnData, target: Path) -> None:
    """Write the data as a SpatialData store."""
    from stmmr.io import to_spatialdata
    from stmmr.io._elements import quietly

    with quietly():
        to_spatialdata(adata).write(target)


def write_report(adata: AnnData, target: Path, facts: dict[str, Any]) -> None:
    """Write the report; say so where what it needs is not installed."""
    from stmmr import report

    try:
        report.write(adata, target, run_facts=facts)
    except ImportError as error:
        logger.info("No report was written: %s", error)


def write_account(
    adata: AnnData,
    folder: Path,
    said: dict[str, Any],
    *,
    asked: Analyses,
    ended: Mapping[str, Exception | None],
    start: float,
    report: bool,
) -> None:
    """Write run.json, and the report where it is wanted.

    Parameters
    ----------
    adata
        With everything that was found.
    folder
        Of the results.
    said
        What was read and with which options, in the order of the file.
    asked
        What was asked of the domains.
    ended
        How each analysis ended.
    start
        When it began, by ``time.perf_counter``.
    report
        Whether to write report.html.
    """
    from stmmr.report._tables import OF_RESULTS, versions

    facts = said | {
        "places": adata.n_obs,
        "genes": adata.n_vars,
        "analyses": plain(facts_of(adata, asked, ended)),
        "stmmr": noted(adata),
        "versions": versions(OF_RESULTS),
        "seconds_in_all": round(time.perf_counter() - start, 3),
        "peak_memory_mb": peak_memory_mb(),
    }
    if report:
        write_report(adata, folder / "report.html", facts)
    write_facts(facts, folder)


def write_facts(facts: dict[str, Any], folder: Path) -> None:
    """Write run.json."""
    (folder / "run.json").write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def say_contents(folder: Path) -> None:
    """Say what lies in the folder."""
    for name, meaning in CONTENTS.items():
        if (folder / name).exists():
            logger.info("%s: %s", folder / name, meaning)


def noted(adata: AnnData) -> dict[str, Any]:
    """Get what the steps noted as JSON holds it, without tables and long arrays, which are in the data."""
    steps = {name: _short(step) if name != "history" else step for name, step in recorded(adata).items()}
    return {name: plain(step) for name, step in steps.items()}


def _short(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    kept = {name: _short(value) for name, value in step.items() if not isinstance(value, pd.DataFrame)}
    return {name: value for name, value in kept.items() if np.size(value) <= LONG}


def plain(value: Any) -> Any:
    """Turn into what JSON holds; NaN becomes null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
