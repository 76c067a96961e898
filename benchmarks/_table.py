"""What the benchmarks share: where the data are, and how measured tables get into the pages of docs/.

The text of a page is written by hand. A benchmark replaces the tables in it, and the paragraph below them that says
when and on what machine they were measured.
"""

import argparse
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
DATA = Path(os.environ.get("STMMR_SHARED", ROOT.parent / "shared")) / "data"
MEASURED = "Measured "
"""How the paragraph below the tables begins."""

Table = list[list[str]]
"""Rows of cells, the header first."""


class Target(NamedTuple):
    """Where the tables of a benchmark stand."""

    page: str
    """File in docs/."""
    n_tables: int
    """How many tables it writes there, at most."""
    section: str | None = None
    """Heading of the section they stand in; None: they are the first tables of the page."""


TARGETS = {
    "accuracy": Target("accuracy.md", 2),
    "accuracy, other methods": Target("accuracy.md", 1, "Other methods, by their own recipes"),
    "alignment": Target("sections.md", 1, "How exact the alignment is"),
    "batches": Target("batches.md", 1),
    "blocks": Target("architecture.md", 2, "Blocks made of the expression"),
    "borders": Target("architecture.md", 1, "Smoothing that keeps borders"),
    "calibration": Target("sections.md", 1, "How well the tests are calibrated"),
    "cases": Target("platforms.md", 1, "How this was checked"),
    "cohort": Target("performance.md", 1, "Many sections"),
    "denoising": Target("denoising.md", 1, "On counts held out"),
    "encoders": Target("encoders.md", 1, "How well encoders recognise a tumour"),
    "genes": Target("genes.md", 2, "Known genes"),
    "histology": Target("accuracy.md", 1, "What the image adds"),
    "images": Target("images.md", 1, "Memory and time"),
    "interrupted": Target("interrupted.md", 1),
    "landmarks": Target("landmarks.md", 1),
    "modalities": Target("modalities.md", 1, "Evidence"),
    "network": Target("architecture.md", 1, "Trained embeddings"),
    "number": Target("number_of_domains.md", 1),
    "peers": Target("performance.md", 1, "Comparison with other methods"),
    "published": Target("accuracy.md", 1, "The published model"),
    "report": Target("report.md", 1, "Size and time"),
    "robustness": Target("robustness.md", 1),
    "scale": Target("performance.md", 4, "Growth with the number of cells"),
    "sections": Target("sections.md", 4),
    "speed": Target("performance.md", 1, "One Visium section, and the preset `paper`"),
    "training": Target("training.md", 1),
    "trajectory": Target("trajectory.md", 1, "On layers of the cortex"),
}
"""Every benchmark that writes tables, by name."""


def no_options(description: str | None) -> None:
    """Take no options but ``--help``, which prints what the benchmark measures and runs nothing."""
    argparse.ArgumentParser(description=description).parse_args()


def write_tables(name: str, *tables: Table, notes: tuple[str, ...] = (), measured: str = "", docs: Path = DOCS) -> None:
    """Replace the tables of a benchmark in their page, and say when they were measured.

    Parameters
    ----------
    name
        Key of `TARGETS`.
    tables
        New tables, in the order in which they stand on the page.
    notes
        Sentences with measured numbers, which follow the date and the machine.
    measured
        Stamp of the measurement, if its results were kept and are written later; empty: now, on this machine.
    docs
        Folder of the pages.
    """
    target = TARGETS[name]
    path = docs / target.page
    blocks = re.split(r"\n{2,}", path.read_text(encoding="utf-8").strip("\n"))
    positions = table_positions(blocks, target.section)
    last = -1
    for table in tables:
        cell = first_cell(markdown(table))
        alike = [i for i in positions if i > last and first_cell(blocks[i]) == cell]
        if not alike:
            raise RuntimeError(
                f"Expected a table of {cell!r} in {target.page}, section {target.section!r}, found none. Correct the "
                "page or benchmarks._table.TARGETS."
            )
        last = alike[0]
        blocks[last] = markdown(table)
    ends = {*positions, *(i for i, block in enumerate(blocks) if re.match(r"#+ ", block))}
    following = min((i for i in ends if i > last), default=len(blocks))
    stamped = [i for i in range(last + 1, following) if blocks[i].startswith(MEASURED)]
    paragraph = " ".join([measured or stamp(), *notes])
    if stamped:
        blocks[stamped[0]] = paragraph
    else:
        blocks.insert(last + 1, paragraph)
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    print(*map(markdown, tables), *notes, sep="\n\n")


def table_positions(blocks: list[str], section: str | None) -> list[int]:
    """Find the tables of a page, or of one of its sections, among its blocks of text; fenced code is passed over."""
    shown = [i for i, code in enumerate(in_code(blocks)) if not code]
    if section is not None:
        levels = {i: len(heading.group(1)) for i in shown if (heading := re.match(r"(#+) [^\n]+$", blocks[i]))}
        first = next((i for i in levels if blocks[i].lstrip("# ") == section), len(blocks))
        stop = next((i for i in levels if i > first and levels[i] <= levels[first]), len(blocks))
        shown = [i for i in shown if first < i < stop]
    return [i for i in shown if blocks[i].startswith("| ")]


def first_cell(table: str) -> str:
    """Get the first cell of the header of a table, which tells tables of a page apart."""
    return table.split("|")[1].strip()


def in_code(blocks: list[str]) -> list[bool]:
    """Tell which blocks begin inside of fenced code."""
    fences = [len(re.findall(r"^```", block, re.MULTILINE)) for block in blocks]
    return [sum(fences[:i]) % 2 == 1 for i in range(len(blocks))]


def stamp() -> str:
    """Say when and on what machine this is measured."""
    cores = f"{os.cpu_count()} cores"
    if threads := os.environ.get("OMP_NUM_THREADS"):
        cores += f" (OMP_NUM_THREADS={threads})"
    machine = f"{cores}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    return f"{MEASURED}{datetime.now(UTC):%Y-%m-%d} on {machine}."


def markdown(table: Table) -> str:
    """Write a table in Markdown."""
    header, *body = table
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *body])
