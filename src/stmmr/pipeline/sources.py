"""Inputs of a run: AnnData, MuData or SpatialData; one file or several; counts in memory or on disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_choice, require_key, require_positive, shown_bytes
from stmmr._core.compat import layers_of
from stmmr._core.record import record, recorded
from stmmr._core.several import AUTO, with_sections
from stmmr._core.space import set_coordinates
from stmmr._core.untrusted import free_memory
from stmmr.io._placing import section_names
from stmmr.pipeline.options import RunFolderOptions, RunOptions
from stmmr.settings import Mode, named_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anndata import AnnData

    from stmmr.pipeline.options import FolderOptions, InputOptions
    from stmmr.settings import Block

logger = logging.getLogger("stmmr")
IN_MEMORY_AT_MOST: Final = 2 * 2**30
"""Bytes that a run in memory may take, where at least twice as many are free; larger data stay on disk."""
ENTRY_BYTES, SPOT_BYTES = 28, 2_000
"""Bytes that a run in memory needs for each stored count (with a normalised copy, and what writing takes) and each
spot; measured, see docs/performance.md."""
BACKED: Final = ("h5ad", "zarr")
"""Platforms whose counts can stay in their files."""
IN_MEMORY: Final = (
    "Expected counts in memory for spatialdata (--spatialdata), found that they stay on disk. Choose "
    'mode="memory" (--mode memory).'
)
OF_ONE_SECTION: Final = ("image", "registration")
"""Options that hold for a single section."""


@dataclass
class Inputs:
    """The data of a run, as the AnnData that all steps read."""

    adata: AnnData
    image: Any = None
    """Image to use instead of the one in the data."""
    registration: Any = None
    """Map from coordinates to pixels of the image."""
    blocks: dict[str, Block] = field(default_factory=dict)
    """Further modalities that come with the data."""
    put_back: Callable[[], None] = lambda: None
    """Writes the results into the object that the user passed."""


def inputs_of(data: Any, options: RunOptions) -> Inputs:
    """Get the AnnData of whatever the user passes to a run.

    Raises
    ------
    InputError
        If the data hold no such table, or an option does not apply to them.
    """
    from stmmr.io._elements import is_spatialdata
    from stmmr.io._mudata import from_mudata, is_mudata, results_to_mudata
    from stmmr.io._spatialdata import FullImage, take_table
    from stmmr.io._spatialdata_write import put_back

    if is_spatialdata(data):
        table, system = options.table, options.coordinate_system
        name: Any = options.image  # of an image of the object
        adata, image = take_table(data, table=table, image=name, coordinate_system=system, with_image=options.histology)
        shown = (
            image.options() if isinstance(image, FullImage) else {"image": image, "registration": options.registration}
        )
        return Inputs(adata, **shown, put_back=lambda: put_back(adata, data, table=table))
    for name in ("table", "coordinate_system"):
        if getattr(options, name) is not None:
            raise InputError(f"Expected SpatialData for {name}, found {type(data).__name__}. Leave {name} out.")
    if is_mudata(data):
        adata, blocks = from_mudata(data)
        put_into = lambda: results_to_mudata(adata, data)  # noqa: E731
        return Inputs(adata, options.image, options.registration, blocks, put_into)
    return Inputs(_anndata(data), options.image, options.registration)


def _anndata(data: Any) -> AnnData:
    from anndata import AnnData

    if isinstance(data, AnnData):
        if data.isbacked and data.is_view:
            raise InputError(
                "Expected an AnnData to write results to, found a part of one whose counts are in a file. Take the "
                "part into memory first: adata = adata[…].to_memory()."
            )
        return data
    hint = f" Read it first: adata = stmmr.read({str(data)!r})." if isinstance(data, str | Path) else ""
    raise InputError(f"Expected AnnData, MuData or SpatialData, found {type(data).__name__}.{hint}")


# files of a command


def named_inputs(sources: Sequence[Path]) -> dict[str, Path]:
    """Name inputs by the last telling part of their path; names become unique.

    Raises
    ------
    InputError
        If an input is given twice.
    """
    paths = [path.resolve() for path in sources]
    twice = [str(path) for index, path in enumerate(paths) if path in paths[:index]]
    if twice:
        raise InputError(f"Expected each section once, found {listed(twice)} twice. Leave it out.")
    return dict(zip(section_names(paths), sources, strict=True))


def read_inputs(
    named: Mapping[str, Path], options: Any, folder: FolderOptions, *, in_memory: bool
) -> tuple[AnnData, Any, Path | None]:
    """Read the input of a command: none (the simulated tissue), or one; `stmmr.pipeline.cohort` reads several.

    Returns
    -------
    The data, the options that remain, and the file that holds the counts if they stay on disk.
    """
    from stmmr import datasets
    from stmmr.io._tables import counts_file
    from stmmr.io.reduced import reduced_on_disk

    counts = None
    reading = reading_options(folder)
    if not named:
        adata = datasets.simulated_tissue()
    else:
        (source,) = named.values()
        backed = stays_on_disk(source, folder.mode, table=options.table)
        if backed and in_memory:
            raise InputError(IN_MEMORY)
        adata, options = open_input(source, options, backed=backed, **reading)
        if backed:
            adata = reduced_on_disk(adata, keep_off_tissue=folder.keep_off_tissue)
        options = settled(adata, options)
        counts = counts_file(adata)
    if isinstance(folder, RunFolderOptions) and folder.align is not None:
        options = align(adata, folder.align, options)
    return adata, options, counts


def reading_options(folder: FolderOptions) -> dict[str, Any]:
    """Get the options that say how an input is read."""
    return {name: getattr(folder, name) for name in ("bin_size", "keep_off_tissue", "boundaries")}


def open_input(
    source: Path,
    options: InputOptions,
    *,
    bin_size: int | None = None,
    backed: bool = False,
    keep_off_tissue: bool = False,
    boundaries: bool = False,
) -> tuple[AnnData, Any]:
    """Read one input; get the options that remain.

    The image of a SpatialData store is opened, and the further modalities of a MuData become blocks.
    """
    from stmmr.io import from_mudata
    from stmmr.io._adopt import adopt
    from stmmr.io._mudata import read_h5mu
    from stmmr.io._read import read_recognised, recognise

    recognised = recognise(source, bin_size=bin_size)
    source = recognised.path
    if recognised.platform == "zarr" and _has_tables(source):
        adata, options = _open_spatialdata(source, options, backed=backed)
        return adopt(adata, keep_off_tissue=keep_off_tissue), options
    chosen = [name for name in ("table", "coordinate_system") if getattr(options, name) is not None]
    if chosen:
        raise InputError(f"Expected a SpatialData store (.zarr) for {listed(chosen)}, found {source}. Leave it out.")
    if recognised.platform == "h5mu":
        adata, blocks = from_mudata(read_h5mu(source))
        adata = adopt(adata, keep_off_tissue=keep_off_tissue)
        if isinstance(options, RunOptions):
            options = replace(options, blocks=blocks | named_blocks(options.blocks))
        return adata, options
    adata = read_recognised(
        recognised, bin_size=bin_size, backed=backed, keep_off_tissue=keep_off_tissue, boundaries=boundaries
    )
    if recognised.platform == "sections" and options.section_key in (None, AUTO):
        key = keys.NEW_SECTION if keys.NEW_SECTION in adata.obs else keys.SECTION
        options = replace(options, section_key=key)
    return adata, options


def settled(adata: AnnData, options: Any) -> Any:
    """Get options whose section key is the column that holds the sections, after checking that there is one if needed.

    Raises
    ------
    InputError
        If the table holds several sections and no key is given.
    """
    set_coordinates(adata)
    if getattr(options, "in_3d", False) and options.section_key is None:
        return options
    return replace(options, section_key=with_sections(adata, options.section_key))


def _has_tables(source: Path) -> bool:
    from stmmr.io._tables import TABLES

    return (source / TABLES).is_dir() or source.resolve().parent.name == TABLES


def _open_spatialdata(source: Path, options: InputOptions, *, backed: bool) -> tuple[AnnData, Any]:
    """Read a table of a SpatialData store, with its image unless the options name another one."""
    from stmmr.io._tables import read_store

    logger.info("Reading %s as a SpatialData store.", source)
    choices = {name: getattr(options, name) for name in ("table", "coordinate_system")}
    image = options.image
    if isinstance(image, Path) and not image.exists():  # the name of an image of the store
        choices["image"] = str(image)
    adata, stored = read_store(
        source, backed=backed, **{name: value for name, value in choices.items() if value is not None}
    )
    unset: dict[str, Any] = dict.fromkeys(choices)
    options = replace(options, **unset)
    if stored is None or options.image is not None or not getattr(options, "histology", True):
        return adata, options
    return adata, replace(options, **stored.options())


# several sections


def check_several(options: InputOptions) -> None:
    """Check that options apply to several inputs."""
    if options.section_key not in (None, AUTO):
        raise InputError(
            f"Expected no --section-key with several inputs, found {options.section_key!r}. Leave it out: each "
            "input is a section."
        )
    given = [name for name in OF_ONE_SECTION if getattr(options, name) is not None]
    if given:
        raise InputError(
            f"Expected the images of several inputs in the inputs themselves, found --{given[0]}, which is for one. "
            "Put each image beside its section, or call stmmr.run(image={'section': 'he.jpg', …}) in Python."
        )


def join_sections(opened: Mapping[str, tuple[AnnData, Any]], options: Any) -> tuple[AnnData, Any]:
    """Put sections into one table; get the options of the joint run.

    Parameters
    ----------
    opened
        By section name: the data, and the options that remained after reading them, with the blocks of a MuData and
        the image of a SpatialData store.
    options
        Options of the command.
    """
    from stmmr.pp import concat_sections

    key = keys.SECTION
    if any(key in adata.obs for adata, _ in opened.values()):
        key = keys.NEW_SECTION
        logger.info("obs has a column 'section' already; the sections are in obs[%r].", key)
    adata = concat_sections({name: adata for name, (adata, _) in opened.items()}, section_key=key)
    remaining = {name: left for name, (_, left) in opened.items()}
    if isinstance(options, RunOptions):
        blocks = {name: block for left in remaining.values() for name, block in named_blocks(left.blocks).items()}
        options = replace(options, blocks=blocks or None)
    images: dict[str, Any] = {
        option: {name: getattr(left, option) for name, left in remaining.items() if getattr(left, option) is not None}
        or None
        for option in OF_ONE_SECTION
    }
    first = next(iter(remaining.values()))
    joint = replace(options, table=first.table, coordinate_system=first.coordinate_system)
    return adata, replace(joint, section_key=key, **images)


def align(adata: AnnData, um: float, options: RunOptions) -> RunOptions:
    """Align and stack sections `um` µm apart, for a run in three dimensions; get its options.

    Sets ``obsm["spatial_3d"]``. Other results of the alignment are not kept: the run computes them itself.
    """
    from anndata import AnnData

    from stmmr import pp

    require_positive(um, name="--align (µm)")
    key = options.section_key
    if key is None:
        raise InputError("Expected several sections for --align, found one input. Give more, or --section-key.")
    require_key(adata.obs.columns, key, where="obs")
    if options.preset == "paper":
        raise InputError("Expected the default preset with --align, found 'paper', whose graph is of the array.")
    if keys.SPATIAL_3D in adata.obsm:
        logger.warning("obsm['spatial_3d'] is replaced by the alignment. To use it as it is, give --in-3d.")
    light = AnnData(
        X=adata.X,
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        obsm=dict(adata.obsm),
        layers=layers_of(adata),
        uns=dict(adata.uns),
    )
    if options.use_rep is None:
        pp.expression(light, layer=options.layer, size_key=options.size_key, section_key=key, progress=options.progress)
    pp.align_sections(light, key, z=um, use_rep=options.use_rep or keys.COMPONENTS, random_state=options.random_state)
    adata.obsm[keys.SPATIAL_3D] = light.obsm[keys.SPATIAL_3D]
    record(adata, align_sections=recorded(light)["align_sections"])
    return replace(options, in_3d=True)


# memory or disk


def stays_on_disk(source: Path, mode: Mode, *, table: str | None = None) -> bool:
    """Decide whether counts are read from their file in chunks, and log the reason."""
    from stmmr.io._read import recognise
    from stmmr.io._tables import counts_in_file

    require_choice(mode, get_args(Mode), name="mode")
    recognised = recognise(source)
    if mode == "memory" or (mode == "auto" and recognised.platform not in BACKED):
        return False
    if mode == "disk":
        return True
    n_spots, n_entries = counts_in_file(recognised.path, table=table)
    return chosen_by_memory(memory_needed(n_entries, n_spots))


def chosen_by_memory(needed: int) -> bool:
    """Decide by the bytes needed whether counts are read from disk in chunks, and log the reason."""
    on_disk = would_stay_on_disk(needed, free := free_memory())
    logger.info(
        "%s: about %s of memory are needed, %s are free.",
        "Counts are read from disk in chunks" if on_disk else "Counts are read into memory",
        shown_bytes(needed),
        shown_bytes(free),
    )
    return on_disk


def memory_needed(n_entries: int, n_spots: int) -> int:
    """Estimate the bytes that a run in memory takes, by the number of stored counts."""
    return n_entries * ENTRY_BYTES + n_spots * SPOT_BYTES


def would_stay_on_disk(needed: int, free: int) -> bool:
    """Tell whether counts stay in their file, by the bytes needed and free."""
    return needed > min(IN_MEMORY_AT_MOST, free / 2)
