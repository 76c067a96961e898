"""Sets of genes from a local file, and whether they are of the species at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from stmmr._core.checks import InputError, listed, logger

if TYPE_CHECKING:
    from collections.abc import Iterable

FEW: Final = 0.1
"""Share of shared names below which a file is taken for one of another species."""
SOME: Final = 0.3
"""Share below which there is a warning."""


class GeneSets(NamedTuple):
    """The sets of a file, of the genes that were measured."""

    of: dict[str, set[str]]
    n_names: int
    """Names of genes in the file."""
    n_shared: int
    """How many of them were measured."""


def read_gmt(path: str | Path) -> dict[str, set[str]]:
    """Read a .gmt: in each line, parted by tabs, the name of a set, a description, and its genes.

    Raises
    ------
    InputError
        If there is no such file, or a line is no set.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"Expected a file of gene sets (.gmt), found none at {path}.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"Expected text in {path.name}, found other bytes. Is it a .gmt?") from error
    sets: dict[str, set[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        genes = {gene.strip() for gene in rest[1:]} - {""}
        if not genes:
            raise InputError(
                f"Expected a name, a description and genes in each line of {path.name}, parted by tabs, found line "
                f"{number} without genes: {line[:60]!r}."
            )
        sets[name.strip()] = sets.get(name.strip(), set()) | genes
    if not sets:
        raise InputError(f"Expected gene sets in {path.name}, found an empty file.")
    return sets


def measured_sets(sets: dict[str, set[str]], measured: Iterable[str], *, name: str) -> GeneSets:
    """Keep the genes of sets that were measured, and check that enough are.

    Shares are of the shorter list: of the names in the file, or of the genes that were measured.

    Raises
    ------
    InputError
        If fewer than a tenth are shared: says which share is if the case of the letters is ignored.
    """
    genes = set(measured)
    names = set().union(*sets.values())
    shared = names & genes
    share = len(shared) / min(len(names), len(genes))
    found = f"{len(shared)} of its {len(names)} names ({share:.1%} of the shorter list) among the {len(genes)} genes"
    if share < FEW:
        folded = {gene.casefold() for gene in genes}
        by_case = sum(gene.casefold() in folded for gene in names) / min(len(names), len(genes))
        hint = (
            f"{by_case:.1%} are if upper and lower case are ignored, as between human (MOBP) and mouse (Mobp). "
            if by_case > 2 * share and by_case > FEW
            else ""
        )
        raise InputError(
            f"Expected gene sets of the species and kind of names of the data (such as {listed(sorted(genes)[:3])}), "
            f"found {found} of the data in {name} (such as {listed(sorted(names)[:3])}). {hint}"
            "Take the file of this species."
        )
    level = logger.warning if share < SOME else logger.info
    level("Gene sets of %s: %s of the data.", name, found)
    return GeneSets({of: some & genes for of, some in sets.items()}, len(names), len(shared))
