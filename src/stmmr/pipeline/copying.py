"""Sections that the workers of a Dask cluster read and copy, each by itself."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from stmmr._core.checks import InputError, logger
from stmmr._core.files import atomic_write
from stmmr._core.log import kept_messages
from stmmr._core.parallel import elsewhere, in_parallel
from stmmr.pipeline.sources import BACKED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from anndata import AnnData

    from stmmr.pipeline.cohort import Opened
    from stmmr.pipeline.options import FolderOptions
    from stmmr.pipeline.sheet import Entry

    Open = Callable[[Entry, Any, FolderOptions], Opened]


class Copied(NamedTuple):
    """What a worker tells of a section."""

    path: Path
    options: Any
    """Options that remain; None after an error."""
    error: Exception | None
    messages: list[tuple[int, str]]
    """Level and text of each."""

    def opened(self) -> tuple[AnnData, Any]:
        """Give the messages of the worker, raise its error, or open the copy."""
        from stmmr.io._tables import read_h5ad

        for level, text in self.messages:
            logger.log(level, "%s", text)
        if self.error is not None:
            raise self.error
        return read_h5ad(self.path, backed=True), self.options


def copied_by_workers(
    entries: Mapping[str, Entry], options: Any, folder: FolderOptions, store: Path | None, *, open_section: Open
) -> dict[str, Copied]:
    """Let workers, if there are any, copy the sections whose counts cannot stay in their files.

    Parameters
    ----------
    entries, options, folder
        The sections, and how they are read.
    store
        Folder for the copies, if counts stay on disk.
    open_section
        Opens and checks a section.
    """
    from stmmr.io import recognise

    if store is None or elsewhere.get() is None:
        return {}
    tasks = {}
    for number, (name, entry) in enumerate(entries.items()):
        with suppress(InputError, OSError):  # raised again when it is opened
            if recognise(entry.path, bin_size=folder.bin_size).platform not in BACKED:
                tasks[name] = (open_section, entry, options, folder, store / f"section{number}.h5ad")
    return dict(zip(tasks, in_parallel(copy, tasks.values()), strict=True))


def copy(open_section: Open, entry: Entry, options: Any, folder: FolderOptions, path: Path) -> Copied:
    """Read and copy a section."""
    with kept_messages() as messages:
        try:
            opened = open_section(entry, options, folder)
            write_section(opened.adata, path)
        except (InputError, OSError) as error:
            return Copied(path, None, error, messages)
    return Copied(path, opened.options, None, messages)


def write_section(adata: AnnData, path: Path) -> None:
    """Write a section with all that can be stored."""
    from stmmr.io._tables import write_h5ad
    from stmmr.io._unstorable import leave_out_unstorable

    leave_out_unstorable(adata)
    with atomic_write(path) as new:
        write_h5ad(adata, new)
