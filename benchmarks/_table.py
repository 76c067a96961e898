"""What the benchmarks share: where the data are, and how a table is written."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STMMR_SHARED", ROOT.parent / "shared")) / "data"


def write(name: str, title: str, *parts: str | list[list[str]]) -> None:
    """Write texts and tables, each given as its rows, with their date and machine into docs/."""
    written = [part if isinstance(part, str) else markdown(part) for part in parts]
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    stamp = f"Measured {datetime.now(UTC):%Y-%m-%d} on {machine}."
    (ROOT / "docs" / name).write_text("\n\n".join([f"# {title}", *written, f"{stamp}\n"]), encoding="utf-8")
    print(*(text for text, part in zip(written, parts, strict=True) if text is not part), sep="\n\n")


def markdown(rows: list[list[str]]) -> str:
    header, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *body])
