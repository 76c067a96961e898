"""`stmmr.map`: embed a new section by a fitted model and transfer the domains, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmmr._core import keys
from stmmr._core.checks import InputError, require_key, unique_names
from stmmr._core.options import shows_options, with_changes
from stmmr._core.parallel import limited_threads
from stmmr._core.record import record, recorded
from stmmr._core.sections import sections_of
from stmmr._core.space import coordinates
from stmmr._core.workers import on_workers
from stmmr.pipeline.analyses import drop_earlier
from stmmr.pipeline.folder import MODEL, read_data, read_facts, read_model
from stmmr.pipeline.options import MapOptions
from stmmr.pipeline.run import evaluate_domains, log_result
from stmmr.pipeline.sources import settled
from stmmr.pipeline.steps import take

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from stmmr.model import StMMR


@shows_options(MapOptions)
def map_section(adata: AnnData, model: StMMR | str | Path, options: MapOptions | None = None, **changes: Any) -> None:
    """Embed a new section by a fitted model, and transfer the domains of the section that the model was fitted on.

    Parameters
    ----------
    adata
        The new section, with counts and coordinates.
    model
        The fitted model, whose ``model.adata`` has domains; or a result folder of ``stmmr run``.
    options
        Options of the mapping.
    **changes
        Single options by name, such as ``layer="counts"``: any attribute of `stmmr.MapOptions`.

    Returns
    -------
    None. Sets what `stmmr.StMMR.transform`, `stmmr.tl.transfer_domains` and `stmmr.tl.refine` set and, with a model
    that uses an image, what `stmmr.pp.histology` sets.

    Raises
    ------
    InputError
        If the section lacks something that the model uses; checked before the first long step.
    TypeError
        If there is no option of a name.
    """
    options = with_changes(MapOptions, options, changes, function="map")
    with limited_threads(options.threads), on_workers(options.scheduler, Path("stmmr")):
        _map(adata, model, options)


def _map(adata: AnnData, model: StMMR | str | Path, options: MapOptions) -> None:
    """Carry out a mapping."""
    if isinstance(model, str | Path):
        folder = Path(model)
        trained, _ = read_data(folder, read_facts(folder))
        model = read_model(folder / MODEL, trained)
    options = settled(adata, options)
    _check(adata, model, options)
    steps = {"embedding": _embedding(adata, model, options), "domains": _domains(adata, model)}
    if model.use_histology:
        steps = {"histology": _histology(adata, model, options), **steps}
    drop_earlier(adata)
    for number, (name, step) in enumerate(steps.items(), start=1):
        take(name, step, adata, number=f"{number}/{len(steps)}")
    if options.label_key is not None:
        evaluate_domains(adata, options.label_key)
    log_result(adata)


def _check(adata: AnnData, model: StMMR, options: MapOptions) -> None:
    from stmmr.encoders._registry import require_encoder
    from stmmr.model import StMMR

    if options.encoder is not None:
        require_encoder(options.encoder)
    if not isinstance(model, StMMR):
        raise InputError(f"Expected a fitted stmmr.StMMR or a result folder as model, found {type(model).__name__}.")
    require_key(model.adata.obs.columns, keys.DOMAIN, where="obs of the section that the model was fitted on")
    coordinates(adata)
    sections_of(adata, options.section_key)
    if options.label_key is not None:
        require_key(adata.obs.columns, options.label_key, where="obs")
    unique_names(adata)


def _embedding(adata: AnnData, model: StMMR, options: MapOptions) -> Callable[[], None]:
    reads = {name: getattr(options, name) for name in ("layer", "size_key", "section_key")}

    def embed() -> None:
        model.transform(adata, progress=options.progress, **reads)
        record(adata, mapped={name: value or "" for name, value in reads.items()})

    return embed


def _domains(adata: AnnData, model: StMMR) -> Callable[[], None]:
    from stmmr import tl

    def transfer() -> None:
        tl.transfer_domains(adata, model.adata)
        tl.refine(adata)

    return transfer


def _histology(adata: AnnData, model: StMMR, options: MapOptions) -> Callable[[], None]:
    """Check image and encoder, and get the step that describes the image as for the fitted section."""
    from stmmr import pp
    from stmmr.image.sections import registered_images

    before = recorded(model.adata)["histology"]
    if options.image is None and not pp.has_image(adata):
        raise InputError("Expected an image, which the model uses, found none. Give image='…' (--image).")
    encoder = pp.encoder_of(str(before["encoder"]) if options.encoder is None else options.encoder)
    image = registered_images(
        adata,
        options.image,
        registration=options.registration,
        um_per_pixel=options.um_per_pixel,
        section_key=options.section_key,
    )
    return lambda: pp.histology(
        adata,
        image=image,
        encoder=encoder,
        section_key=options.section_key,
        stain="macenko" if before["stain"] else None,
        cache=options.cache,
        progress=options.progress,
    )
