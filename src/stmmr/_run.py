"""All steps in order, from an AnnData to its spatial domains."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from stmmr import _keys
from stmmr._record import record
from stmmr._validate import InputError, coordinates, logger, require_choice, require_key, require_positive, unique_names
from stmmr.settings import Preset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData


def run(
    adata: AnnData,
    *,
    n_domains: int | Literal["auto"] = "auto",
    image: Path | None = None,
    histology: bool = True,
    preset: Preset = "default",
    layer: str | None = None,
    size_key: str | None = None,
    use_rep: str | None = None,
    section_key: str | None = None,
    label_key: str | None = None,
    random_state: int = 0,
    progress: bool = True,
) -> None:
    """Find the spatial domains of a section: prepare, train, cut, refine, evaluate.

    Parameters
    ----------
    adata
        Places with counts (or a representation) and coordinates.
    n_domains
        How many domains to find; "auto" takes the number that stands out (`stmmr.tl.number_of_domains`).
    image
        H&E picture whose pixels are the units of the coordinates; otherwise the picture in the data, if any.
    histology
        Whether to read the picture at all.
    preset
        "default", or "paper" for the published model.
    layer
        Layer with the raw counts, where X does not hold them.
    size_key
        Column of obs with the library size, where the genes at hand are only part of what was counted.
    use_rep
        Key of obsm to read instead of counts, such as X_pca.
    section_key
        Column of obs with the section of each place, where there are several.
    label_key
        Column of obs with expert labels to compare with, after everything is decided.
    random_state
        Seed of everything that is drawn.
    progress
        Whether to show progress bars.

    Returns
    -------
    None. Sets what `stmmr.pp.expression`, `stmmr.pp.spatial_graph`, `stmmr.pp.histology`, `stmmr.StMMR.fit`,
    `stmmr.tl.consensus` and `stmmr.tl.refine` set, and ``uns["stmmr"]["seconds"]``, the time of each.

    Raises
    ------
    InputError
        If something cannot be used as given; checked before the first long step.
    """
    from stmmr import pp, tl
    from stmmr.model import StMMR

    require_choice(preset, get_args(Preset), name="preset")
    _check(adata, n_domains=n_domains, use_rep=use_rep, section_key=section_key, label_key=label_key)
    seconds: dict[str, float] = {}
    if use_rep is None:
        with timed("expression", seconds):
            pp.expression(adata, layer=layer, size_key=size_key, section_key=section_key)
    with timed("spatial graph", seconds):
        if preset == "paper":
            pp.spatial_graph(adata, use="array", bandwidth=2.0, section_key=section_key)
        else:
            pp.spatial_graph(adata, use_rep=use_rep, section_key=section_key)
    sees = histology and (image is not None or pp.has_picture(adata))
    if sees:
        with timed("histology", seconds):
            pp.histology(adata, image=image, progress=progress)
    with timed("training", seconds):
        model = StMMR(adata, preset=preset, use_rep=use_rep, use_histology=sees, random_state=random_state)
        model.fit(progress=progress)
    with timed("domains", seconds):
        tl.consensus(adata, n_domains, random_state=random_state)
        tl.refine(adata)
    if label_key is not None:
        for key in (_keys.DOMAIN, _keys.DOMAIN_REFINED):
            tl.evaluate(adata, label_key=label_key, domain_key=key)
    record(adata, seconds=seconds)


@contextmanager
def timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Note how long a step took."""
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 3)
    logger.info("%s: %.1f s", name, seconds[name])


def _check(
    adata: AnnData,
    *,
    n_domains: int | str,
    use_rep: str | None,
    section_key: str | None,
    label_key: str | None,
) -> None:
    """Find what is wrong before the first long step."""
    from stmmr.pp._sections import sections_of

    if isinstance(n_domains, str):
        require_choice(n_domains, ("auto",), name="n_domains")
    else:
        require_positive(n_domains, name="n_domains")
        if n_domains > adata.n_obs:
            raise InputError(f"Expected at least as many places as domains ({n_domains}), found {adata.n_obs}.")
    coordinates(adata)
    if label_key is not None:
        require_key(adata.obs.columns, label_key, where="obs")
    if use_rep is not None:
        require_key(adata.obsm, use_rep, where="obsm")
    sections_of(adata, section_key)
    unique_names(adata)
