"""What the long benchmarks share: each result is kept as soon as it is measured, so that a stopped run can resume."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

Key = tuple[str, str, int]
"""Data set, method, seed."""
Row = dict[str, Any]
Measure = Callable[[str, str, int], Row]


def kept_rows(cache: Path) -> dict[Key, Row]:
    """Read the results of earlier runs."""
    if not cache.exists():
        return {}
    rows = map(json.loads, cache.read_text().splitlines())
    return {(row["data"], row["method"], row["seed"]): row for row in rows}


def complete(cache: Path, wanted: Iterable[Key], measure: Measure, workers: int) -> dict[Key, Row]:
    """Measure the results that are wanted and not in the cache, and return all results of the cache."""
    rows = kept_rows(cache)
    cache.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(workers) as pool, cache.open("a", encoding="utf-8") as file:
        for future in as_completed([pool.submit(measure, *key) for key in wanted if key not in rows]):
            row = future.result()
            rows[row["data"], row["method"], row["seed"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            score = row.get("ari", float("nan"))
            print(f"{row['data']:26s} {row['method']:18s} {row['seed']} {score:.3f} {row['seconds']:.1f} s", flush=True)
    return rows
