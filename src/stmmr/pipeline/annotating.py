"""``stmmr annotate``: names, merges and notes of domains, from a file to a result folder."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, listed, logger, shown_bytes
from stmmr._core.depends import called
from stmmr._core.files import as_written
from stmmr._core.folders import drafted
from stmmr._core.locks import locked
from stmmr._core.untrusted import require_regular
from stmmr._core.validated import from_json, read_json
from stmmr._core.version import VERSION
from stmmr.pipeline import folder as results
from stmmr.pipeline.folder import MODEL, RESULT
from stmmr.pipeline.steps import attempt
from stmmr.pipeline.writing import note_report_image, wants_tiles, write_again

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr.pipeline.options import RewriteOptions
    from stmmr.pipeline.writing import Report


LARGEST: Final = 10_000_000
"""Bytes of a table of names."""


@dataclass(frozen=True, kw_only=True)
class DomainName:
    """What a file says about a domain."""

    domain: str
    name: str = ""
    note: str | None = None
    n_obs: int | None = None


@dataclass(frozen=True, kw_only=True)
class DomainNames:
    """A file of names, as docs/outputs.md describes it."""

    format: Literal["stmmr-domains"]
    version: Literal[1]
    domain_key: str = keys.DOMAIN
    domains: list[DomainName] = field(default_factory=list)

    def names(self, adata: AnnData, domain_key: str) -> dict[str, str]:
        """Get the new names, after checking that the file is of these domains."""
        every = [entry.domain for entry in self.domains]
        if twice := sorted({name for name in every if every.count(name) > 1}):
            raise InputError(f"Expected each domain once in the file of names, found {listed(twice)} twice.")
        values = categories(adata, domain_key)
        sizes = dict(zip(map(str, values.categories), np.bincount(values.codes + 1)[1:], strict=False))
        for entry in self.domains:
            size = int(sizes.get(entry.domain, 0))
            if entry.domain in sizes and entry.n_obs not in (None, size):
                raise InputError(
                    f"Expected names of the domains of this result, found domain {entry.domain!r} with {entry.n_obs} "
                    f"spots in the file and {size} in the result. The file is of another result or was applied before. "
                    "Export the names from the present report of this result."
                )
        return {entry.domain: entry.name for entry in self.domains if entry.name.strip()}

    @property
    def notes(self) -> dict[str, str]:
        """The notes by the present names of the domains."""
        return {entry.domain: entry.note for entry in self.domains if entry.note is not None}


def read_names(path: Path) -> DomainNames:
    """Read names of domains, from JSON or CSV.

    Raises
    ------
    InputError
        If the file is something else.
    """
    if not path.is_file():
        raise InputError(f"Expected a file with names of domains (.json or .csv), found none at {path}.")
    if path.suffix.lower() == ".csv":
        return _read_table(path)
    content = read_json(path, expected='names of domains (JSON with "format": "stmmr-domains")')
    names = from_json(DomainNames, content, where=f"names of domains at {path}")
    if not names.domains:
        raise InputError(f"Expected names of domains in {path}, found none.")
    return names


def _read_table(path: Path) -> DomainNames:
    require_regular(path)
    if path.stat().st_size > LARGEST:
        raise InputError(f"Expected a table of domains in {path}, found {shown_bytes(path.stat().st_size)}.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        separator = max(",;\t", key="".join(lines[:1]).count)  # spreadsheets of many countries write semicolons
        rows = list(csv.DictReader(lines, delimiter=separator))
        header = set(rows[0]) if rows else set()
        if not {"domain", "name"} <= header:
            raise ValueError(f"the columns {listed(map(str, header))}" if header else "no rows")
        entries = [
            DomainName(
                domain=as_written((row["domain"] or "").strip()),
                name=as_written(row["name"] or ""),
                note=None if row.get("note") is None else as_written(row["note"]),
                n_obs=int(row["n_obs"]) if row.get("n_obs") else None,
            )
            for row in rows
        ]
    except (ValueError, csv.Error) as error:
        raise InputError(f"Expected the columns domain and name in {path} (CSV, UTF-8), found {error}.") from error
    return DomainNames(format="stmmr-domains", version=1, domains=entries)


def annotate_folder(
    result: Path, names: Path, options: RewriteOptions, *, domain_key: str | None = None, report: Report | None = None
) -> dict[str, Exception]:
    """Write names, merges and notes of domains into a result folder. After an error it is as it was.

    Parameters
    ----------
    result
        The folder.
    names
        JSON or CSV, as docs/outputs.md describes it.
    options
        Options about the report and the progress bars.
    domain_key
        Column of ``obs`` with the domains; None: that of the file.
    report
        Writes the report again.

    Returns
    -------
    The errors of what is optional (tables, figures, report, SpatialData), by name.

    Raises
    ------
    InputError
        If it is no result folder, or the names are not of its domains.
    """
    from stmmr.tl._annotation import annotate_domains

    start, file = time.perf_counter(), read_names(names)
    with locked(result):
        facts = results.read_facts(result)
        with drafted(result, RESULT, overwrite=True) as draft:
            adata, counts = results.read_data(result, facts)
            key = domain_key or file.domain_key
            new = file.names(adata, key)
            lost = annotate_domains(adata, new, notes=file.notes, domain_key=key, progress=options.progress)
            failed: dict[str, Exception] = {}
            lost = _gene_sets_again(adata, lost, facts, failed)
            if lost:
                logger.warning("Removed results of the domains before the merge: %s.", called(*lost))
            changes = {"file": names.name, "domain_key": key, "names": new, "notes": file.notes, "stmmr": VERSION}
            facts |= {"annotations": [*facts.get("annotations", []), changes]}
            facts["seconds_of_last_annotate"] = round(time.perf_counter() - start, 3)
            note_report_image(facts, options)
            kept = (MODEL, results.TILES) if wants_tiles(facts) else (MODEL,)
            draft.take_over(lambda name: name.partition("/")[0] in kept)
            write_again(draft, adata, facts, failed, counts=counts, report=report)
    results.log_contents(result)
    return failed


def _gene_sets_again(adata: AnnData, lost: list[str], facts: dict[str, Any], failed: dict[str, Exception]) -> list[str]:
    """Find the gene sets of merged domains again, where their file is still there; get what remains lost."""
    from stmmr import tl

    result = f"enrichment:{keys.ENRICHMENT}"
    path = facts.get("analyses", {}).get("gene sets", {}).get("options", {}).get("gene_sets")
    if result not in lost or not isinstance(path, str) or not Path(path).is_file():
        return lost
    with attempt("gene sets", failed):
        tl.enrichment(adata, path)
    return [each for each in lost if each != result]
