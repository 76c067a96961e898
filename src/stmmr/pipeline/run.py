"""All steps in order, from the data of a section to its spatial domains."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, require_choice, require_key, require_positive, unique_names
from stmmr._core.parallel import is_first, started_outside
from stmmr._core.record import record, recorded
from stmmr._core.rows import scratch_folder
from stmmr._core.space import coordinates
from stmmr.pipeline.given import given
from stmmr.pipeline.resume import Progress
from stmmr.settings import Block, Blocks, Preset, named_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from stmmr.encoders import Encoder
    from stmmr.model import StMMR

FULL_BATCH_AT_MOST: Final = 20_000
"""Places that `paper` reads in one batch, as published; of more, it draws batches."""
BATCH: Final = 4_096
DECIDE_NOTHING: Final = {
    "data", "label_key", "checkpoint", "save_model", "cache", "accelerator", "devices", "num_nodes", "progress"
}  # fmt: skip
"""Options that the results do not depend on."""


def run(
    data: AnnData | MuData | SpatialData,
    *,
    n_domains: int | Literal["auto"] = "auto",
    image: str | Path | NDArray[np.uint8] | Mapping[str, Any] | None = None,
    registration: str | Path | NDArray[np.float64] | Mapping[str, Any] | None = None,
    um_per_pixel: float | None = None,
    encoder: str | Path | Encoder = "he",
    stain: Literal["macenko"] | None = None,
    cache: Path | None = None,
    histology: bool = True,
    preset: Preset = "default",
    layer: str | None = None,
    size_key: str | None = None,
    use_rep: str | None = None,
    blocks: Blocks | None = None,
    section_key: str | None = None,
    in_3d: bool = False,
    label_key: str | None = None,
    random_state: int = 0,
    table: str | None = None,
    coordinate_system: str | None = None,
    checkpoint: Path | None = None,
    save_model: Path | None = None,
    devices: int = 1,
    num_nodes: int = 1,
    accelerator: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["bf16-mixed"] | None = None,
    progress: bool = True,
) -> None:
    """Find the spatial domains of a section: prepare, train, cut, refine, evaluate.

    Parameters
    ----------
    data
        Places with counts (or a representation) and coordinates; of a SpatialData object, a table with the elements
        it describes. Of a MuData, the modality named "rna" or alike is the expression and the others are blocks.
    n_domains
        How many domains to find; "auto" takes the number that stands out (`stmmr.tl.number_of_domains`).
    image
        H&E picture, whose pixels are the units of the coordinates unless `registration` is given, or the name of an
        image of a SpatialData object; otherwise the picture in the data, if any. Of several sections, those in the
        data under the names of the sections, or a mapping from these names to pictures.
    registration
        Affine map from coordinates to pixels of the picture: a 3 × 3 matrix, as a CSV file or the imagealignment.csv of
        Xenium Explorer.
    um_per_pixel
        µm per unit of the coordinates, where the data do not tell.
    encoder
        What describes the picture: he, which needs no weights, or a network by its name or folder
        (`stmmr.pp.encoders`).
    stain
        "macenko" brings the colours of the picture to those of a reference first.
    cache
        Folder that keeps the features of the picture for other runs.
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
    blocks
        Further kinds of measurement, such as protein: each a name, a key of obsm, and a likelihood (nb, zinb, bernoulli
        or gaussian; none for features of a picture).
    section_key
        Column of obs with the section of each place, where there are several.
    in_3d
        Whether places have neighbours in the sections above and below as well, by obsm["spatial_3d"]
        (`stmmr.pp.align_sections` makes it); not with the preset "paper".
    label_key
        Column of obs with expert labels to compare with, after everything is decided.
    random_state
        Seed of everything that is drawn.
    table
        Name of the table of a SpatialData object, where there are several.
    coordinate_system
        Where its places lie; see `stmmr.io.from_spatialdata`.
    checkpoint
        Folder that keeps the steps that are done: killed at any point, the same call on the same data goes on from
        there and ends with the same result. It is left to the caller to remove.
    save_model
        Folder to save the trained model to, for `stmmr.StMMR.load`; an earlier one is replaced.
    devices
        Processes on this machine that train together, with a GPU each if on GPUs; more than one need the extra
        ``distributed`` (Lightning).
    num_nodes
        Machines that train together, each running the same command as torchrun or SLURM starts it.
    accelerator
        "cuda", "cpu", or "auto" for a GPU where there is one.
    precision
        "bf16-mixed" for products of matrices in bfloat16.
    progress
        Whether to show progress bars, with rate and time left.

    Returns
    -------
    None. Sets what `stmmr.pp.expression`, `stmmr.pp.spatial_graph`, `stmmr.pp.histology`, `stmmr.StMMR.fit`,
    `stmmr.tl.consensus` and `stmmr.tl.refine` set; ``uns["stmmr"]["seconds"]``, the time of each, and
    ``uns["stmmr"]["peak_memory_mb"]``, the largest memory of the process at its end. In a SpatialData object it is the
    table that these are set in, once all steps are done; its coordinates and all elements stay as they are. A MuData
    gets the domains in its own ``obs`` and the embedding in its ``obsm``.

    Raises
    ------
    InputError
        If something cannot be used as given; checked before the first long step.
    """
    options = dict(locals())
    from stmmr import pp, tl
    from stmmr.image.sections import images_available, registered_images

    require_choice(preset, get_args(Preset), name="preset")
    of = given(
        data,
        image=image,
        registration=registration,
        histology=histology,
        table=table,
        coordinate_system=coordinate_system,
    )
    adata = of.adata
    sees = histology and images_available(adata, of.image, section_key=section_key)
    named = of.blocks | named_blocks(blocks, histology=sees)
    if in_3d:
        _check_stacked(adata, preset)
    _check(adata, named, n_domains=n_domains, use_rep=use_rep, section_key=section_key, label_key=label_key)
    if sees:  # what is wrong with the picture or the encoder is said at once
        encoder = pp.encoder_of(encoder)
        where = {"registration": of.registration, "um_per_pixel": um_per_pixel, "section_key": section_key}
        of.image = registered_images(adata, of.image, **where)
    elif registration is not None:
        raise InputError("Expected a picture with its registration, found none. Give image='…' (--image) as well.")

    def expression() -> None:
        pp.expression(adata, layer=layer, size_key=size_key, section_key=section_key, progress=progress)

    def graph() -> None:
        if preset == "paper":
            pp.spatial_graph(adata, use="array", bandwidth=2.0, section_key=section_key)
        else:
            pp.spatial_graph(adata, use="spatial_3d" if in_3d else "spatial", use_rep=use_rep, section_key=section_key)

    def picture() -> None:
        pp.histology(
            adata,
            image=of.image,
            section_key=section_key,
            encoder=encoder,
            stain=stain,
            cache=cache if cache is not None or done is None else done.folder / "features",
            progress=progress,
        )
        of.image = None  # a picture in memory is not needed any longer

    def training() -> None:
        shape: dict[str, Any] = {
            "preset": preset,
            "use_rep": use_rep,
            "use_histology": sees,
            "blocks": named,
            "random_state": random_state,
        }
        engine = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes, "precision": precision}
        kept = None if done is None else done.folder / "training.safetensors"
        model = train_model(adata, shape=shape, engine=engine | {"checkpoint": kept}, progress=progress)
        if save_model is not None and is_first():
            model.save(save_model, overwrite=True)

    def number() -> None:
        tl.number_of_domains(adata, random_state=random_state, progress=progress)

    def domains() -> None:
        k = recorded(adata)["number_of_domains"]["chosen"] if n_domains == "auto" else n_domains
        tl.consensus(adata, int(k), random_state=random_state, progress=progress)
        tl.refine(adata)

    taken = {
        "expression": use_rep is None,
        "spatial graph": True,
        "histology": sees,
        "training": True,
        "number of domains": n_domains == "auto",
        "domains": True,
    }
    every: list[Callable[[], None]] = [expression, graph, picture, training, number, domains]
    steps = {name: step for (name, wanted), step in zip(taken.items(), every, strict=True) if wanted}
    decide = {name: value for name, value in options.items() if name not in DECIDE_NOTHING}
    decide |= {
        "devices": devices * num_nodes,
        "blocks": named,
        "encoder": getattr(encoder, "name", encoder),
    }
    if checkpoint is not None and started_outside():
        logger.info("Processes that were started together keep no finished steps, as they could find different ones.")
        checkpoint = None
    done = None if checkpoint is None else Progress(checkpoint, adata, decide)
    if use_rep is not None and layer is not None:  # for what reads genes later
        record(adata, counts={"layer": layer})
    with scratch_folder(checkpoint):
        for at, (name, step) in enumerate(steps.items(), start=1):
            # a training that is done goes on from its last state, at once, where its model was not saved
            unsaved = name == "training" and save_model is not None and not (save_model / "model.json").exists()
            take(name, step, adata, done=done, at=f"{at}/{len(steps)}", again=unsaved)
            if name == "training" and not is_first():
                return
    if label_key is not None:
        evaluate_domains(adata, label_key)
    of.put_back()


def evaluate_domains(adata: AnnData, label_key: str) -> None:
    """Compare the domains, and those after the vote, with expert labels."""
    from stmmr import tl

    for key in (keys.DOMAIN, keys.DOMAIN_REFINED):
        tl.evaluate(adata, label_key=label_key, domain_key=key)


def train_model(adata: AnnData, *, shape: dict[str, Any], engine: dict[str, Any], progress: bool) -> StMMR:
    """Train and embed, in batches where the preset reads all places at once and there are too many of them."""
    from stmmr.model import StMMR

    if shape["preset"] == "paper" and adata.n_obs > FULL_BATCH_AT_MOST:
        shape = shape | {"batch_size": BATCH}
    model = StMMR(adata, progress=progress, **shape)
    size = model.settings.batch_size
    how = f"in batches of {size}" if 0 < size < adata.n_obs else "in one batch"
    logger.info("Training %s, %d places in all.", how, adata.n_obs)
    return model.fit(progress=progress, **engine)


def take(
    name: str, step: Callable[[], None], adata: AnnData, *, done: Progress | None, at: str, again: bool = False
) -> None:
    """Take a step, or get what it wrote before; note how long it took and how much memory that was."""
    if done is not None and not again and done.restore(name, adata):
        logger.info("%s %s: done before.", at, name)
        return
    start, before = time.perf_counter(), dict(adata.obsm)
    step()
    seconds = round(time.perf_counter() - start, 3)
    facts: dict[str, Any] = {"seconds": seconds, "peak_memory_mb": peak_memory_mb()}
    record(adata, **{fact: recorded(adata).get(fact, {}) | {name: value} for fact, value in facts.items() if value})
    logger.info("%s %s: %.1f s", at, name, seconds)
    if done is not None:
        done.keep(name, adata, before)


def peak_memory_mb() -> float | None:
    """Measure the largest memory this process held so far, in MB; None where the platform does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def _check_stacked(adata: AnnData, preset: str) -> None:
    """Check that a graph in three dimensions can be made."""
    from stmmr._core.sections import stacked_coordinates

    stacked_coordinates(adata)
    if preset == "paper":
        raise InputError("Expected in_3d=False with the preset 'paper', whose graph is of the array. Use the default.")


def _check(
    adata: AnnData,
    blocks: dict[str, Block],
    *,
    n_domains: int | str,
    use_rep: str | None,
    section_key: str | None,
    label_key: str | None,
) -> None:
    """Find what is wrong before the first long step."""
    from stmmr._core.sections import sections_of
    from stmmr.linear.blocks import check_blocks

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
    check_blocks(adata, blocks)
    sections_of(adata, section_key)
    unique_names(adata)
