"""Several inputs of one command: opened and checked, all problems at once, and joined in memory or on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, representation
from stmmr._core.compat import libraries_of
from stmmr._core.counts import count_statistics
from stmmr._core.files import atomic_write
from stmmr._core.folders import Kind, remove, require_ours
from stmmr._core.options import plain
from stmmr._core.raw import raw_counts
from stmmr._core.record import record
from stmmr._core.rows import CHUNK, OnDisk, as_csr, is_on_disk
from stmmr._core.space import coordinates
from stmmr._core.untrusted import free_memory
from stmmr._core.version import VERSION
from stmmr.image.library import holds_image
from stmmr.image.sections import in_section
from stmmr.pipeline.copying import copied_by_workers, write_section
from stmmr.pipeline.options import RunFolderOptions
from stmmr.pipeline.sheet import add_columns, inputs_named
from stmmr.pipeline.sources import (
    BACKED,
    align,
    check_several,
    chosen_by_memory,
    join_sections,
    memory_needed,
    open_input,
    reading_options,
    would_stay_on_disk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData

    from stmmr._core.types import Bools
    from stmmr.io.joined import Part
    from stmmr.pipeline.options import FolderOptions
    from stmmr.pipeline.sheet import Entry, NamedInputs

GENES_AT_LEAST: Final = 0.1
"""Share of its genes, or of those of the typical section if it has fewer, that a section has in common with that."""
STORE: Final = Kind(
    "joined sections", "inputs.json", frozenset({"inputs"}), r"(sections|section\d+)\.h5ad|inputs\.json"
)
"""A folder beside the output with the counts of all sections, one below the other."""


class _LargerThanMemory(Exception):  # noqa: N818 - no error
    """Sections need more memory than a run may take."""


class Opened(NamedTuple):
    """A section that was read."""

    adata: AnnData
    """Without its counts, if they stay on disk."""
    options: Any
    """Options that remain, with its image."""
    counts: Part | None = None
    """Its counts on disk."""


@dataclass
class Joined:
    """The sections of a command in one table."""

    adata: AnnData
    options: Any
    """Options of the joint run."""
    counts: Path | None = None
    """File with the counts, if they are on disk."""
    skipped: Mapping[str, str] | None = None
    """Sections that were left out, with the reasons."""

    def note(self) -> None:
        """Note in the data where their counts are, and which sections were left out."""
        skipped = {} if self.skipped is None else {"skipped": dict(self.skipped)}
        record(self.adata, mode="memory" if self.counts is None else "disk", **skipped)


def read_cohort(inputs: NamedInputs, options: Any, folder: FolderOptions, *, store: Path | None) -> Joined:
    """Read the sections of a command and join them.

    Parameters
    ----------
    inputs
        The sections.
    options
        Options of a run or a mapping.
    folder
        Options about the inputs.
    store
        Folder for the counts if they are larger than memory; None keeps them in memory.

    Raises
    ------
    InputError
        If sections cannot be read or joined, all of them with their reasons; unless they may be left out, and others
        remain.
    """
    on_disk = store is not None and _stays_on_disk(inputs, folder.mode)
    may_switch = store is not None and folder.mode == "auto"
    try:
        opened, broken = _open_all(inputs, options, folder, store=store if on_disk else None, may_switch=may_switch)
    except _LargerThanMemory:  # as only reading the sections has shown
        opened, broken = _open_all(inputs, options, folder, store=store, may_switch=False)
        on_disk = True
    broken = {**inputs.broken, **broken, **_other_genes({n: each for n, each in opened.items() if n not in broken})}
    if inputs.sheet is not None and getattr(options, "histology", True):
        broken |= _without_image({name: each for name, each in opened.items() if name not in broken})
    _report(broken, len(inputs.entries) + len(inputs.broken), skip=options.skip_broken, header=inputs.header)
    entries = {name: entry for name, entry in inputs.entries.items() if name not in broken}
    if not entries:
        raise InputError("Expected a section that can be read, found none.")
    opened = {name: opened[name] for name in entries}
    if on_disk and store is not None:
        joined = _joined_on_disk(opened, options, store)
    else:
        joined = Joined(*_joined(opened, options))
    key = joined.options.section_key or keys.SECTION
    if len(entries) == 1:
        joined.adata.obs[key] = pd.Categorical(list(entries) * joined.adata.n_obs)
    add_columns(joined.adata, entries, key)
    if isinstance(folder, RunFolderOptions) and folder.align is not None:
        joined.options = align(joined.adata, folder.align, joined.options)
    joined.skipped = broken or None
    return joined


def read_sheet_in_memory(path: Path, options: Any) -> Joined:
    """Read the sections of a sample sheet into memory and join them."""
    check_several(options)
    return read_cohort(inputs_named([path]), options, RunFolderOptions(output=path.with_suffix("")), store=None)


def _stays_on_disk(inputs: NamedInputs, mode: str) -> bool:
    """Decide whether the counts of all sections stay on disk, by the files that tell their size."""
    from stmmr.io import recognise
    from stmmr.io._tables import counts_in_file

    if mode != "auto":
        return mode == "disk"
    needed = 0
    for entry in inputs.entries.values():
        with suppress(InputError, OSError):  # said when it is opened
            if (recognised := recognise(entry.path)).platform in BACKED:
                n_spots, n_entries = counts_in_file(recognised.path)
                needed += memory_needed(n_entries, n_spots)
    return chosen_by_memory(needed)


def _open_all(
    inputs: NamedInputs, options: Any, folder: FolderOptions, *, store: Path | None, may_switch: bool
) -> tuple[dict[str, Opened], dict[str, str]]:
    """Open all sections; get the reasons why some cannot be read.

    Counts stay on disk if there is a folder for those of platforms that are read into memory only.
    """
    opened: dict[str, Opened] = {}
    broken: dict[str, str] = {}
    needed = 0
    if store is not None:
        _prepare(store, inputs, options, folder)
    copied = copied_by_workers(inputs.entries, options, folder, store, open_section=_checked)
    for number, (name, entry) in enumerate(inputs.entries.items()):
        with in_section(name):
            try:
                if name in copied:
                    each = Opened(*copied[name].opened())
                else:
                    each = _checked(entry, options, folder, backed=store is not None)
                opened[name] = each
                if store is not None:
                    opened[name] = _left_on_disk(each, folder, store / f"section{number}.h5ad")
            except (InputError, OSError) as error:
                broken[name] = (str(error).splitlines() or [type(error).__name__])[0]
                continue
        if store is None and may_switch and each.adata.X is not None:
            needed += memory_needed(int(each.adata.X.size), each.adata.n_obs)
            if would_stay_on_disk(needed, free_memory()):
                raise _LargerThanMemory
    return opened, broken


def _open(entry: Entry, options: Any, folder: FolderOptions, *, backed: bool) -> Opened:
    """Read a section; in a sample sheet, its image is named there."""
    from stmmr.io import recognise

    backed = backed and recognise(entry.path, bin_size=folder.bin_size).platform in BACKED
    adata, left = open_input(
        entry.path,
        replace(options, image=entry.image, registration=entry.registration),
        backed=backed,
        **reading_options(folder),
    )
    return Opened(adata, left)


def _checked(entry: Entry, options: Any, folder: FolderOptions, *, backed: bool = False) -> Opened:
    opened = _open(entry, options, folder, backed=backed)
    _check(opened)
    return opened


def _check(opened: Opened) -> None:
    """Check what the steps would find only later, by the first spots where it is in the counts."""
    adata, options, _ = opened
    use_rep = getattr(options, "use_rep", None)
    if not adata.n_obs or not (adata.n_vars or use_rep):
        raise InputError(f"Expected spots and genes, found {adata.n_obs} spots and {adata.n_vars} genes.")
    coordinates(adata)
    if use_rep is not None:
        representation(adata, use_rep)
        return
    where, matrix = raw_counts(adata, options.layer)
    statistics = count_statistics(as_csr(matrix[:CHUNK]))
    statistics.check(where, adata)
    if adata.n_obs <= CHUNK and not statistics.total.any():
        raise InputError(f"Expected counts in {where}, found only zeros.")


def _other_genes(opened: Mapping[str, Opened]) -> dict[str, str]:
    """Find sections that share hardly a gene with the typical one, which shares most with all others."""
    from stmmr.io._concat import reason_of_other_genes

    names = [each.adata.var_names.astype(str) for each in opened.values()]
    if len(names) < 2:
        return {}
    genes = pd.factorize(np.concatenate([index.to_numpy() for index in names]))[0]
    rows = np.repeat(np.arange(len(names)), [len(index) for index in names])
    has = sparse.csr_matrix((np.ones(len(genes)), (rows, genes)))
    has.data[:] = 1  # of names that occur twice
    sizes = np.maximum(np.asarray(has.sum(axis=1)).ravel(), 1)
    share = (has @ has.T).toarray() / np.minimum.outer(sizes, sizes)
    typical = int(share.sum(axis=1).argmax())
    problems = {}
    for number in np.flatnonzero(share[typical] < GENES_AT_LEAST):
        name, of = list(opened)[number], list(opened)[typical]
        n = len(names[number].intersection(names[typical]))
        problems[name] = (
            f"Expected genes that all sections have, found {n or 'none'} that {name!r} ({len(names[number])} genes, "
            f"such as {listed(names[number][:3])}) shares with {of!r} ({len(names[typical])} genes, such as "
            f"{listed(names[typical][:3])}).{reason_of_other_genes(names[typical], names[number])}"
        )
    return problems


def _without_image(opened: Mapping[str, Opened]) -> dict[str, str]:
    """Find sections of a sample sheet without an image, if others have one."""
    missing = [
        name
        for name, (adata, options, _) in opened.items()
        if options.image is None and not any(map(holds_image, libraries_of(adata).values()))
    ]
    if len(missing) == len(opened):
        return {}
    text = (
        f"Expected an image, as {len(opened) - len(missing)} other sections have one, found none. Give it in the "
        "column image of the sample sheet, or use none (histology=False, --no-histology)."
    )
    return dict.fromkeys(missing, text)


def _report(broken: Mapping[str, str], n: int, *, skip: bool, header: str) -> None:
    """Raise an InputError with all sections that cannot be used, or warn if they may be left out."""
    if header and (skip or not broken):
        raise InputError(header)
    if not broken:
        return
    if skip:
        for name, problem in broken.items():
            logger.warning("Section %s is left out. %s", name, problem)
        return
    advice = "To go on without what cannot be used: skip_broken=True (--skip-broken)."
    if len(broken) == 1 and not header:
        ((name, problem),) = broken.items()
        raise InputError(f"Section {name}: {problem} {advice}")
    lines = [f"  {name}: {problem}" for name, problem in broken.items()]
    where = f"{len(broken)}{' and in columns' * bool(header)}"
    found = f"Expected {n} sections that can be run together, found problems in {where}:"
    lines = [f"  columns (line 1): {header}"] * bool(header) + lines
    raise InputError("\n".join([found, *lines, advice * (not header)]).rstrip())


def _joined(opened: Mapping[str, Opened], options: Any) -> tuple[AnnData, Any]:
    """Join sections, or take the only one."""
    parts = {name: (adata, left) for name, (adata, left, _) in opened.items()}
    return join_sections(parts, options) if len(parts) > 1 else next(iter(parts.values()))


# on disk


@contextmanager
def kept_sections(output: Path) -> Iterator[Path]:
    """Name the folder for counts of sections on disk; after a kill or an error of the machine they stay."""
    store = output.with_name(f".{output.name}.sections")
    try:
        yield store
    except InputError:
        remove_sections(store)
        raise


def remove_sections(store: Path) -> None:
    """Remove counts of sections, if there are any."""
    if STORE.marks(store):
        remove(store, STORE)


def _prepare(store: Path, inputs: NamedInputs, options: Any, folder: FolderOptions) -> None:
    """Make the folder, without what is of other inputs or options."""
    facts = {
        "version": VERSION,
        "inputs": {name: _state(entry.path) for name, entry in inputs.entries.items()},
        "options": plain([options.table, options.layer, folder.bin_size, folder.keep_off_tissue]),
    }
    marker, text = store / STORE.marker, json.dumps(facts, sort_keys=True)
    require_ours(store, STORE)
    if not (marker.exists() and marker.read_text(encoding="utf-8") == text):
        remove(store, STORE)
        store.mkdir(parents=True, exist_ok=True)
        with atomic_write(marker) as new:
            new.write_text(text, encoding="utf-8")


def _state(path: Path) -> list[Any]:
    """Get size and time of all files of an input."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _left_on_disk(opened: Opened, folder: FolderOptions, path: Path) -> Opened:
    """Leave the counts of a section in their file, which is closed, or write them to `path`."""
    from stmmr.io._adopt import dropped
    from stmmr.io._tables import close, read_h5ad
    from stmmr.io.joined import Part

    adata, options, _ = opened
    if not is_on_disk(adata.X):
        write_section(adata, path)
        adata = read_h5ad(path, backed=True)
    off, controls = dropped(adata, keep_off_tissue=folder.keep_off_tissue)
    light = _without_matrices(adata, ~off, ~controls)
    if getattr(options, "use_rep", None) is not None:
        return Opened(light, options)
    _, matrix = raw_counts(adata, options.layer)
    counts = Part(OnDisk(matrix), adata.var_names, ~off, matrix.dtype)
    close(adata)
    return Opened(light, options, counts)


def _without_matrices(adata: AnnData, spots: Bools, genes: Bools) -> AnnData:
    """Get some spots and genes of a section without its counts."""
    from anndata import AnnData

    every = bool(spots.all())
    return AnnData(
        obs=adata.obs if every else adata.obs[spots],
        var=adata.var[genes],
        obsm={name: values if every else values[spots] for name, values in adata.obsm.items()},
        uns=dict(adata.uns),
    )


def _joined_on_disk(opened: dict[str, Opened], options: Any, store: Path) -> Joined:
    """Copy the counts of all sections into one file, unless it is there already."""
    from stmmr.io._tables import with_counts_of
    from stmmr.io.joined import write_joined

    adata, joint = _joined(opened, options)
    parts = [each.counts for each in opened.values() if each.counts is not None]
    opened.clear()  # the table has all of them
    path = store / "sections.h5ad"
    if not path.exists():
        write_joined(parts, adata.var_names, path)
        logger.info("Counts of %d sections were copied into one file, with %d genes.", len(parts), adata.n_vars)
    return Joined(with_counts_of(adata, path), replace(joint, layer=None), path)
