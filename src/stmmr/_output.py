"""What `stmmr run` writes, and what `stmmr info` says."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from stmmr import __version__, _keys
from stmmr._record import recorded
from stmmr._run import run
from stmmr._validate import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

logger = logging.getLogger("stmmr")
PACKAGES = ("anndata", "numpy", "scanpy", "scikit-image", "scikit-learn", "scipy", "torch")


def run_to_folder(
    source: Path | None,
    output: Path,
    *,
    overwrite: bool,
    options: dict[str, Any],
    bin_size: int | None = None,
) -> None:
    """Read, run and write; the output folder appears whole at the end, or not at all.

    Parameters
    ----------
    source
        What `stmmr.read` takes; ``None`` for the simulated tissue.
    output
        Folder to make.
    overwrite
        Whether an earlier result may be replaced.
    options
        Keyword arguments of `stmmr.run`.
    bin_size
        Side of Visium HD bins in µm.
    """
    from stmmr import datasets
    from stmmr.io import read
    from stmmr.io._write import publish_folder

    start = time.perf_counter()
    with publish_folder(output, overwrite=overwrite) as folder:
        adata = datasets.simulated_tissue() if source is None else read(source, bin_size=bin_size)
        run(adata, **options)
        write_results(adata, folder)
        facts = {
            "input": "simulated tissue" if source is None else str(source),
            "options": {name: _plain(value) for name, value in options.items()},
            "places": adata.n_obs,
            "genes": adata.n_vars,
            "stmmr": _plain(recorded(adata)),
            "versions": versions(),
            "seconds_in_all": round(time.perf_counter() - start, 3),
            "peak_memory_mb": peak_memory_mb(),
        }
        (folder / "run.json").write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for name, meaning in CONTENTS.items():
        if (output / name).exists():
            logger.info("%s: %s", output / name, meaning)


CONTENTS = {
    "result.h5ad": "the data with embedding, domains and everything that was set",
    "domains.csv": "one row per place: its domain, how sure it is, and the domain after the vote of its neighbours",
    "run.json": "settings, versions, times, peak memory",
    "domains.png": "the domains over the picture",
    "confidence.png": "how sure the domain of each place is",
    "domains_refined.png": "the same after the vote",
    "embedding.png": "the embedding as a UMAP",
    "training.png": "the training curve",
    "number_of_domains.png": "the curve that the number of domains was chosen on",
    "bandwidth.png": "the curve that the bandwidth of the graph was chosen on",
}


def write_results(adata: AnnData, folder: Path) -> None:
    """Write the table, the figures and the data."""
    from matplotlib import pyplot as plt

    from stmmr import pl, tl
    from stmmr.io._tables import write_h5ad

    tl.umap(adata)
    table = adata.obs[[_keys.DOMAIN, _keys.CONFIDENCE, _keys.DOMAIN_REFINED]].rename_axis(index="place")
    table.columns = ["domain", "confidence", "domain_refined"]
    table.to_csv(folder / "domains.csv")
    figures: dict[str, Callable[[], Axes]] = {
        "domains.png": lambda: pl.domains(adata),
        "confidence.png": lambda: pl.values(adata, _keys.CONFIDENCE, vmin=0, vmax=1),
        "domains_refined.png": lambda: pl.domains(adata, domain_key=_keys.DOMAIN_REFINED),
        "embedding.png": lambda: pl.embedding(adata),
        "training.png": lambda: pl.history(adata),
    }
    if "bandwidths_tried" in recorded(adata)["spatial_graph"]:
        figures["bandwidth.png"] = lambda: pl.bandwidth(adata)
    if "number_of_domains" in recorded(adata):
        figures["number_of_domains.png"] = lambda: pl.number_of_domains(adata)
    for name, draw in figures.items():
        figure = draw().get_figure(root=True)
        assert figure is not None  # noqa: S101 - axes just drawn
        figure.savefig(folder / name, dpi=200, bbox_inches="tight")
        plt.close(figure)
    write_h5ad(adata, folder / "result.h5ad")


def describe(source: Path) -> dict[str, str]:
    """Say what an input was recognised as and what it holds."""
    from stmmr.io._read import read_recognised, recognise

    found = recognise(source)
    adata = read_recognised(found)
    pictures = [
        f"{library}: {', '.join(f'{k} {v.shape[1]} × {v.shape[0]} px' for k, v in content['images'].items())}"
        for library, content in adata.uns.get(_keys.SPATIAL, {}).items()
        if content.get("images")
    ]
    return {
        "platform": f"{found.platform} ({found.because})",
        "read from": str(found.path),
        "places": f"{adata.n_obs}",
        "genes": f"{adata.n_vars}",
        "coordinates": _length(adata),
        "pictures": "; ".join(pictures) or "none",
        "obs": ", ".join(adata.obs.columns) or "nothing",
        "obsm": ", ".join(adata.obsm) or "nothing",
        "layers": ", ".join(adata.layers) or "nothing",
    }


def _length(adata: AnnData) -> str:
    """Say what a unit of the coordinates is."""
    from stmmr.pp._scale import units

    try:
        unit, um, told_by = units(adata)
    except InputError as error:
        return f"not usable: {error}"
    by_array = f" (taken from the {told_by})" if told_by.endswith("array") else ""
    return f"{unit}, {um:.4g} µm each{by_array}" if np.isfinite(um) else f"{unit}, length in µm unknown"


def versions() -> dict[str, str]:
    """Collect the versions that shape a result."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"stmmr": __version__, "python": platform.python_version(), "platform": platform.platform()} | packages


def peak_memory_mb() -> float | None:
    """Measure the largest memory this process held so far, in MB; None where the platform does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def _plain(value: Any) -> Any:
    """Turn into what JSON holds; NaN becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
