"""What the benchmarks share: where the data are, and how a table is written."""

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STMMR_SHARED", ROOT.parent / "shared")) / "data"
PERFORMANCE = ("Growth with the number of cells", "Beside other methods", "One section of Visium, and `paper`")
"""Sections of docs/performance.md, each written by a benchmark of its own: scale, peers, speed."""

Part = str | list[list[str]]
"""A text, or a table by its rows."""


def write(name: str, title: str, *parts: Part) -> None:
    """Write texts and tables with their date and machine into docs/."""
    written = [part if isinstance(part, str) else markdown(part) for part in parts]
    (ROOT / "docs" / name).write_text("\n\n".join([f"# {title}", *written, f"{stamp()}\n"]), encoding="utf-8")
    print(*(text for text, part in zip(written, parts, strict=True) if text is not part), sep="\n\n")


def write_section(title: str, *parts: Part, page: Path = ROOT / "docs" / "performance.md") -> None:
    """Write one section of a page, and leave the others as they are."""
    tables = [markdown(part) for part in parts if not isinstance(part, str)]
    written = [part if isinstance(part, str) else markdown(part) for part in parts]
    first, *others = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = {text.split("\n", 1)[0]: text.strip() for text in others}
    sections[title] = "\n\n".join([title, *written])
    kept = sorted(sections, key=lambda name: PERFORMANCE.index(name) if name in PERFORMANCE else len(PERFORMANCE))
    text = "\n\n".join([first.strip(), *(f"## {sections[name]}" for name in kept)])
    page.write_text(f"{text}\n", encoding="utf-8")
    print(*tables, sep="\n\n")


def stamp() -> str:
    """Say when and on what machine this was measured."""
    cores = f"{os.cpu_count()} cores"
    if threads := os.environ.get("OMP_NUM_THREADS"):
        cores += f" (OMP_NUM_THREADS={threads})"
    machine = f"{cores}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    return f"Measured {datetime.now(UTC):%Y-%m-%d} on {machine}."


def markdown(rows: list[list[str]]) -> str:
    header, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *body])
