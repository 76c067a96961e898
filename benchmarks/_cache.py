"""What the long benchmarks share: each result is kept once it is there, so that a run goes on where it stopped."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

Key = tuple[str, str, int]
"""Data, method, seed."""
Row = dict[str, Any]
Measure = Callable[[str, str, int], Row]


def measured(cache: Path) -> dict[Key, Row]:
    """Read what earlier runs left."""
    if not cache.exists():
        return {}
    rows = map(json.loads, cache.read_text().splitlines())
    return {(row["data"], row["method"], row["seed"]): row for row in rows}


def complete(cache: Path, asked: Iterable[Key], measure: Measure, workers: int) -> dict[Key, Row]:
    """Measure what is asked and not yet in the cache, and return all that is there."""
    rows = measured(cache)
    cache.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(workers) as pool, cache.open("a", encoding="utf-8") as kept:
        for done in as_completed([pool.submit(measure, *key) for key in asked if key not in rows]):
            row = done.result()
            rows[row["data"], row["method"], row["seed"]] = row
            kept.write(json.dumps(row) + "\n")
            kept.flush()
            score = row.get("ari", float("nan"))
            print(f"{row['data']:26s} {row['method']:18s} {row['seed']} {score:.3f} {row['seconds']:.1f} s", flush=True)
    return rows
