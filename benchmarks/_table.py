"""What the benchmarks share: where the data are, and how a table is written."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STMMR_SHARED", ROOT.parent / "shared")) / "data"


def write(name: str, title: str, text: str, rows: list[list[str]]) -> None:
    """Write a Markdown table with its date and machine into docs/."""
    header, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *body]]
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    stamp = f"Measured {datetime.now(UTC):%Y-%m-%d} on {machine}."
    (ROOT / "docs" / name).write_text("\n".join([f"# {title}", "", text, "", *lines, "", stamp, ""]), encoding="utf-8")
    print("\n".join(lines))
