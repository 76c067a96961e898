"""`stmmr.run`: all steps in order, from the data of a section to its spatial domains."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from stmmr._core import keys
from stmmr._core.arrays import computing_on
from stmmr._core.checks import InputError, logger, representation, require_key, unique_names
from stmmr._core.depends import add_facts, drop_outdated
from stmmr._core.folders import require_ours
from stmmr._core.locks import locked
from stmmr._core.log import RESULT
from stmmr._core.options import shows_options, with_changes
from stmmr._core.parallel import is_first, limited_threads, started_outside
from stmmr._core.record import record, recorded
from stmmr._core.rows import is_on_disk, scratch_folder
from stmmr._core.space import coordinates, rows_called
from stmmr._core.workers import on_workers
from stmmr.pipeline.analyses import drop_earlier
from stmmr.pipeline.cohort import read_sheet_in_memory
from stmmr.pipeline.hardware import devices_of, names_hardware
from stmmr.pipeline.options import NOT_RESULTS, RunOptions
from stmmr.pipeline.resume import KEPT, KeptSteps
from stmmr.pipeline.sheet import is_sheet
from stmmr.pipeline.sources import Inputs, inputs_of, settled
from stmmr.pipeline.steps import attempt, take
from stmmr.settings import named_blocks, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from mudata import MuData
    from spatialdata import SpatialData

    from stmmr.settings import Block

FULL_BATCH_AT_MOST: Final = 20_000
"""Spots that the preset "paper" reads in one batch, as published; of more, it draws batches."""
BATCH: Final = 4_096
FEWEST_SPOTS: Final = 13
"""Fewest spots of a run: each takes part in a vote with its twelve nearest."""


@shows_options(RunOptions)
def run(
    data: AnnData | MuData | SpatialData | str | Path, options: RunOptions | None = None, **changes: Any
) -> AnnData | None:
    """Find the spatial domains of a section, or of several.

    Prepares expression, spatial graph and image features, embeds the spots, clusters the embedding into domains,
    smooths them by a majority vote, and compares them with labels where there are any.

    Parameters
    ----------
    data
        Spots, cells or bins with counts (or a representation) and coordinates. Of a SpatialData object, a table with
        the elements that it describes. Of a MuData, the modality "rna" (or similar) is the expression and the others
        are further blocks. Or the path of a sample sheet: a table (.csv, .tsv) with a row for each section and the
        columns section, path and, if there are images, image; all others go to ``obs``.
    options
        Options of the run; all defaults if None.
    **changes
        Single options by name, such as ``n_domains=7``: any attribute of `stmmr.RunOptions`.

    Returns
    -------
    None; of a sample sheet, its sections in one AnnData. Sets what `stmmr.pp.expression`, `stmmr.pp.spatial_graph`,
    `stmmr.pp.histology`, `stmmr.StMMR.fit`, `stmmr.tl.consensus` and `stmmr.tl.refine` set;
    ``uns["stmmr"]["seconds"]``, the time of each step, and ``uns["stmmr"]["peak_memory_mb"]``, the peak memory of the
    process after each. Results of an earlier run that the new one does not replace are removed. A SpatialData object
    gets the results in its table, a MuData the domains in its ``obs`` and the embedding in its ``obsm``, once all steps
    are finished.

    Raises
    ------
    InputError
        If the data or an option cannot be used; checked before the first long step.
    TypeError
        If there is no option of a name.
    """
    options = with_changes(RunOptions, options, changes, function="run")
    beside = options.checkpoint or Path("stmmr")
    with limited_threads(options.threads), on_workers(options.scheduler, beside):
        if not (isinstance(data, str | Path) and is_sheet(data)):
            run_steps(data, options)
            return None
        joined = read_sheet_in_memory(Path(data), options)
        run_steps(joined.adata, joined.options)
        joined.note()
        return joined.adata


def run_steps(data: Any, options: RunOptions) -> dict[str, Exception]:
    """Find domains as `run` does; get the errors of what is optional, by its name."""
    state, failed = _prepare(data, options), dict[str, Exception]()
    adata, options = state.adata, state.options
    checkpoint = options.checkpoint
    if checkpoint is not None and started_outside():
        logger.info("Finished steps are not kept, because several processes run this command together.")
        checkpoint = None
    drop_earlier(adata)
    if options.use_rep is not None and options.layer is not None:  # for analyses of genes later
        record(adata, counts={"layer": options.layer})
    with ExitStack() as stack:
        if checkpoint is not None:
            stack.enter_context(locked(checkpoint))
            state.kept = KeptSteps(checkpoint, adata, _decisive(state))
        stack.enter_context(computing_on("cuda" if options.accelerator == "cuda" else "numpy"))
        stack.enter_context(scratch_folder(checkpoint, beside_disk=is_on_disk(adata.X)))
        steps = [step for step in STEPS if step.wanted(state)]
        for number, step in enumerate(steps, start=1):
            _take(step, state, f"{number}/{len(steps)}")
            if step.name == "embedding" and not is_first():
                return failed
    drop_outdated(adata)
    if options.label_key is not None:
        with attempt("comparison with labels", failed):
            evaluate_domains(adata, options.label_key)
    state.inputs.put_back()
    log_result(adata)
    return failed


@dataclass
class Run:
    """What the steps of a run share."""

    inputs: Inputs
    options: RunOptions
    blocks: dict[str, Block]
    """Further modalities by name."""
    uses_image: bool
    encoder: Any = None
    image: Any = None
    """The image, registered to the spots; removed once it was described."""
    kept: KeptSteps | None = None
    """Steps that were finished before a kill."""

    @property
    def adata(self) -> AnnData:
        """The data that the steps read and write."""
        return self.inputs.adata


def _prepare(data: Any, options: RunOptions) -> Run:
    """Check data and options, so that whatever is wrong is reported before the first long step."""
    from stmmr import pp
    from stmmr.encoders._registry import require_encoder
    from stmmr.image.sections import images_available, registered_images

    inputs = inputs_of(data, options)
    adata = inputs.adata
    options = settled(adata, options)
    uses_image = options.histology and images_available(adata, inputs.image, section_key=options.section_key)
    blocks = inputs.blocks | named_blocks(options.blocks, histology=uses_image)
    state = Run(inputs, options, blocks, uses_image, options.encoder)
    require_encoder("he" if options.encoder is None else options.encoder)
    _check(state)
    if uses_image:
        state.encoder = pp.encoder_of(options.encoder)
        state.image = registered_images(
            adata,
            inputs.image,
            registration=inputs.registration,
            um_per_pixel=options.um_per_pixel,
            section_key=options.section_key,
        )
    elif options.registration is not None:
        raise InputError("Expected an image with its registration, found none. Give image='…' (--image) as well.")
    return state


def _check(state: Run) -> None:
    """Check what the options say about the data."""
    from stmmr._core.sections import sections_of, stacked_coordinates
    from stmmr.linear.blocks import check_blocks

    adata, options = state.adata, state.options
    if options.in_3d:
        stacked_coordinates(adata)
        if options.preset == "paper":
            raise InputError("Expected no in_3d with the preset 'paper', whose graph is of the array. Use the default.")
    if not isinstance(options.n_domains, str) and options.n_domains > adata.n_obs:
        raise InputError(
            f"Expected at least as many {rows_called(adata)} as domains ({options.n_domains}), found {adata.n_obs}."
        )
    coordinates(adata)
    if adata.n_obs < FEWEST_SPOTS:
        raise InputError(f"Expected at least {FEWEST_SPOTS} {rows_called(adata)}, found {adata.n_obs}.")
    if options.label_key is not None:
        require_key(adata.obs.columns, options.label_key, where="obs")
    if options.use_rep is not None:
        representation(adata, options.use_rep)
    if options.checkpoint is not None:
        require_ours(options.checkpoint, KEPT, option="checkpoint (--checkpoint)")
    _warn_of_rows_and_columns(adata)
    check_blocks(adata, state.blocks)
    devices_of(options).check(
        settings_of(options.preset, **_batches(state)), adata.n_obs, decoder=names_hardware(options)
    )
    sections_of(adata, options.section_key)
    unique_names(adata)


def _warn_of_rows_and_columns(adata: AnnData) -> None:
    """Warn of spots off the tissue and of controls among the genes, which `stmmr.read` drops."""
    from stmmr.io._adopt import controls_of, off_tissue

    for number, what, how in (
        (off_tissue(adata).sum(), f"{rows_called(adata)} are off the tissue", "adata[adata.obs['in_tissue'] == 1]"),
        (controls_of(adata).sum(), "features are controls and no genes", "adata[:, …]"),
    ):
        if number:
            logger.warning("%d %s, and are used as the others. Leave them out by %s.copy().", number, what, how)


def _batches(state: Run) -> dict[str, int]:
    """Get the setting by which the preset "paper" draws batches of very many spots."""
    many = state.options.preset == "paper" and state.adata.n_obs > FULL_BATCH_AT_MOST
    return {"batch_size": BATCH} if many else {}


def _decisive(state: Run) -> dict[str, Any]:
    """Get what the results depend on beside the data: options by value, images and encoders by content."""
    from stmmr.encoders import encoder_fingerprint, image_fingerprint

    options = state.options
    values = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in NOT_RESULTS}
    images = {
        name: (image_fingerprint(image.slide.identity), image.matrix.tolist(), image.um_per_px)
        for name, image in (state.image or {}).items()
    }
    return values | {
        "devices": options.devices * options.num_nodes,
        "blocks": state.blocks,
        "encoder": getattr(state.encoder, "name", state.encoder),
        "encoder_fingerprint": None if state.encoder is None else encoder_fingerprint(state.encoder),
        "image": images,
        "registration": None,
    }


def _take(step: Step, state: Run, number: str) -> None:
    """Carry out or restore a step; a model that was not saved before a kill is fitted again, from its last state."""
    folder = state.options.save_model
    unsaved = step.name == "embedding" and folder is not None and not (folder / "model.json").exists()
    take(step.name, lambda: step.run(state), state.adata, number=number, kept=state.kept, again=unsaved)


# the steps


def expression(state: Run) -> None:
    """Normalise the counts and choose the genes."""
    from stmmr import pp

    options = state.options
    pp.expression(
        state.adata,
        layer=options.layer,
        size_key=options.size_key,
        section_key=options.section_key,
        progress=options.progress,
    )


def spatial_graph(state: Run) -> None:
    """Connect spots with their neighbours."""
    from stmmr import pp

    options = state.options
    if options.preset == "paper":
        pp.spatial_graph(state.adata, use="array", bandwidth=2.0, section_key=options.section_key)
    else:
        use: Any = keys.SPATIAL_3D if options.in_3d else keys.SPATIAL
        pp.spatial_graph(state.adata, use=use, use_rep=options.use_rep, section_key=options.section_key)


def histology(state: Run) -> None:
    """Describe the image around each spot."""
    from stmmr import pp

    options, cache = state.options, state.options.cache
    if cache is None and state.kept is not None:
        cache = state.kept.folder / "features"
    pp.histology(
        state.adata,
        image=state.image,
        section_key=options.section_key,
        encoder=state.encoder,
        stain=options.stain,
        cache=cache,
        progress=options.progress,
    )
    state.image = None  # frees an image in memory


def embedding(state: Run) -> None:
    """Embed the spots; save the model."""
    from stmmr.model import StMMR

    adata, options = state.adata, state.options
    model = StMMR(
        adata,
        preset=options.preset,
        use_rep=options.use_rep,
        use_histology=state.uses_image,
        blocks=state.blocks,
        random_state=options.random_state,
        progress=options.progress,
        **_batches(state),
    )
    model.fit(
        progress=options.progress,
        **devices_of(options)._asdict(),
        checkpoint=None if state.kept is None else state.kept.folder / "training.safetensors",
    )
    if options.save_model is not None and is_first():
        model.save(options.save_model, overwrite=True)


def number_of_domains(state: Run) -> None:
    """Choose the number of domains."""
    from stmmr import tl

    tl.number_of_domains(state.adata, random_state=state.options.random_state, progress=state.options.progress)


def domains(state: Run) -> None:
    """Cluster the embedding into domains and smooth them."""
    from stmmr import tl

    adata, options = state.adata, state.options
    n_domains = options.n_domains
    number = "auto" if isinstance(n_domains, str) else "given"
    if isinstance(n_domains, str):
        n_domains = int(recorded(adata)["number_of_domains"]["chosen"])
    if options.method == "consensus":
        tl.consensus(adata, n_domains, random_state=options.random_state, progress=options.progress)
    else:
        tl.domains(adata, n_domains, method=options.method, random_state=options.random_state)
    step = "consensus" if options.method == "consensus" else "domains"
    add_facts(adata, step, number=number)
    tl.refine(adata)


class Step(NamedTuple):
    """A step of a run."""

    name: str
    run: Callable[[Run], None]
    wanted: Callable[[Run], bool] = lambda _: True
    """Whether the options ask for it."""


STEPS: Final = (
    Step("expression", expression, lambda state: state.options.use_rep is None),
    Step("spatial graph", spatial_graph),
    Step("histology", histology, lambda state: state.uses_image),
    Step("embedding", embedding),
    Step("number of domains", number_of_domains, lambda state: state.options.n_domains == "auto"),
    Step("domains", domains),
)


def evaluate_domains(adata: AnnData, label_key: str) -> None:
    """Compare the domains, and the smoothed ones, with expert labels."""
    from stmmr import tl

    for key in (keys.DOMAIN, keys.DOMAIN_REFINED):
        tl.evaluate(adata, label_key=label_key, domain_key=key)


def log_result(adata: AnnData) -> None:
    """Log the result in one line."""
    n_domains = adata.obs[keys.DOMAIN].nunique()
    confidence = ""
    if keys.CONFIDENCE in adata.obs:
        confidence = f", mean confidence {np.mean(adata.obs[keys.CONFIDENCE]):.2f}"
    if keys.ALTERNATIVE in adata.obs:
        confidence += f", and a second answer in obs[{keys.ALTERNATIVE!r}]"
    plural = "s" if n_domains != 1 else ""
    logger.log(RESULT, "%d domain%s%s; see adata.obs[%r].", n_domains, plural, confidence, keys.DOMAIN)
