"""The table: one row for each run as it ends, and what is said of all of them together."""

from __future__ import annotations

import hashlib
import json
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core.checks import InputError, listed, logger
from stmmr._core.files import atomic_write, parsing
from stmmr._core.version import VERSION
from stmmr.reproduce._labels import scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

KEY: Final = ["section", "preset", "epochs", "width", "root", "seed"]
"""What tells runs apart; epochs and width are those of `paper`, else 0, the root that of the pseudotime."""
COLUMNS: Final = [
    "dataset",
    *KEY,
    "domains_asked",
    "domains",
    "ari",
    "nmi",
    "n_labelled",
    "places",
    "genes_read",
    "picture",
    "bandwidth",
    "unit",
    "neighbours",
    "seconds",
    "peak_memory_mb",
    "notes",
    "state",
]
GROUP: Final = ["section", "preset", "epochs", "width", "root"]
AVERAGED: Final = ("domains", "ari", "nmi", "agreement_of_seeds", "agreement_with_default", "seconds")
ALL: Final = ("mean of sections", "median of sections")


class Rows:
    """The runs that are done, in a folder: ``rows.csv`` and the domains of each.

    Parameters
    ----------
    folder
        Made where it is missing.
    dataset
        Name of the recipe.
    states
        What each section was read from (`state_of`); rows of other data or another version are left out.

    Raises
    ------
    InputError
        If the folder holds the table of another data set.
    """

    def __init__(self, folder: Path, dataset: str, states: dict[str, str]) -> None:
        self.folder, self.dataset = folder, dataset
        (folder / "domains").mkdir(parents=True, exist_ok=True)
        self.path = folder / "rows.csv"
        self.rows: list[dict[str, Any]] = []
        self.truth: dict[str, pd.Series | None] = {}
        if self.path.exists():
            self.rows = self._kept(states)

    def _kept(self, states: dict[str, str]) -> list[dict[str, Any]]:
        with parsing(self.path, expected="the rows of an earlier run"):
            table = pd.read_csv(
                self.path,
                dtype={"section": str, "root": str, "notes": str, "domains_asked": str},
                keep_default_na=False,
                na_values=[""],
            )
            table = table.fillna({"root": "", "notes": ""})
            rows: list[dict[str, Any]] = [
                dict(zip(COLUMNS, values, strict=True)) for values in table[COLUMNS].itertuples(index=False)
            ]
        others = {row["dataset"] for row in rows} - {self.dataset}
        if others:
            raise InputError(
                f"Expected results of {self.dataset} in {self.folder}, found those of {listed(sorted(others))}. Choose "
                "another --output."
            )
        stale = [row for row in rows if states.get(row["section"], row["state"]) != row["state"]]
        if stale:
            logger.info("%d rows are of other data or another version: they are run again.", len(stale))
        return [row for row in rows if row not in stale and self.domains_at(row).is_file()]

    def domains_at(self, row: dict[str, Any]) -> Path:
        """Say where the domains of a run are."""
        parts = (row["section"], row["preset"], row["root"], *(f"{name[0]}{row[name]:g}" for name in KEY[2:4]))
        shown = "_".join(str(part) for part in parts if part not in ("", "e0", "w0"))
        return self.folder / "domains" / f"{shown}_seed{row['seed']:g}.csv".replace("/", "-")

    def done(self, key: dict[str, Any]) -> bool:
        """Tell whether a run is done."""
        return any(all(row[name] == key[name] for name in KEY) for row in self.rows)

    def add(self, row: dict[str, Any], domains: pd.DataFrame, *, truth: Callable[[], pd.Series | None]) -> None:
        """Keep a run: its domains first, so that a row is never without; then the labels may be read."""
        with atomic_write(self.domains_at(row)) as new:
            domains.to_csv(new, index_label="place")
        if row["section"] not in self.truth:
            self.truth[row["section"]] = truth()
        self.rows.append({name: row.get(name) for name in COLUMNS})
        self.write()

    def domains(self, row: dict[str, Any]) -> pd.Series:
        """Read the domains of a run."""
        found: pd.Series = pd.read_csv(self.domains_at(row), index_col=0, dtype=str)["domain"]
        return found

    def write(self) -> pd.DataFrame:
        """Compare all runs with the labels, write ``rows.csv``, ``table.csv`` and ``table.md``; get the table."""
        for row in self.rows:
            truth = self.truth.get(row["section"])
            if truth is not None:
                row |= scores(truth, self.domains(row).reindex(truth.index))
        rows = pd.DataFrame(self.rows, columns=COLUMNS)
        table = self.summary(rows)
        with atomic_write(self.path) as new:
            rows.to_csv(new, index=False)
        with atomic_write(self.folder / "table.csv") as new:
            table.to_csv(new, index=False)
        with atomic_write(self.folder / "table.md") as new:
            new.write_text(markdown(table), encoding="utf-8")
        return table

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Put the seeds of a run together, and the sections where there are several."""
        rows = rows.astype(dict.fromkeys(("ari", "nmi", "seconds", "peak_memory_mb"), float))
        default = {(r["section"], r["seed"]): self.domains(r) for r in self.rows if r["preset"] == "default"}
        grouped = [self._group(dict(zip(GROUP, key, strict=True)), of, default) for key, of in _groups(rows)]
        table = pd.DataFrame(grouped)
        return pd.concat([table, pd.DataFrame(_over_sections(table))], ignore_index=True)

    def _group(
        self, key: dict[str, Any], of: pd.DataFrame, default: dict[tuple[str, int], pd.Series]
    ) -> dict[str, Any]:
        of_seed = {seed: self.domains(key | {"seed": seed}) for seed in of["seed"]}
        pairs = [agreement(a, b) for a, b in combinations(of_seed.values(), 2)]
        others = {seed: default.get((key["section"], seed)) for seed in of_seed}
        beside = [agreement(of_seed[seed], other) for seed, other in others.items() if other is not None]
        return key | {
            "domains_asked": of["domains_asked"].iloc[0],
            "domains": _middle(of["domains"]),
            "ari": _middle(of["ari"]),
            "ari_sd": of["ari"].std(ddof=0) if len(of) > 1 else np.nan,
            "nmi": _middle(of["nmi"]),
            "seeds": len(of),
            "agreement_of_seeds": float(np.median(pairs)) if pairs else np.nan,
            "agreement_with_default": float(np.median(beside)) if beside and key["preset"] != "default" else np.nan,
            "neighbours": of["neighbours"].iloc[0],
            "picture": of["picture"].iloc[0],
            "seconds": _middle(of["seconds"]),
            "peak_memory_mb": of["peak_memory_mb"].max(),
            "notes": "; ".join(dict.fromkeys(note for text in of["notes"] for note in str(text).split("; ") if note)),
        }


def _groups(rows: pd.DataFrame) -> Iterable[tuple[tuple[Any, ...], pd.DataFrame]]:
    yield from rows.groupby(GROUP, sort=False)


def _over_sections(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Take mean and median over sections that were run one by one, for each preset that ran on several."""
    found: list[dict[str, Any]] = []
    for key, of in table.groupby(GROUP[1:-1], sort=False):
        of = of[~of["section"].str.contains("+", regex=False)]
        if of["section"].nunique() < 2:
            continue
        averages: list[Callable[[NDArray[np.float64]], Any]] = [np.mean, np.median]
        for name, how in zip(ALL, averages, strict=True):
            row: dict[str, Any] = dict(zip(GROUP[1:-1], key, strict=True))
            row |= {"section": f"{name} ({of['section'].nunique()})", "root": "", "seeds": int(of["seeds"].min())}
            row |= {column: _middle(of[column], how=how) for column in AVERAGED}
            found.append(row | {"peak_memory_mb": of["peak_memory_mb"].max()})
    return found


def _middle(values: pd.Series, *, how: Callable[[NDArray[np.float64]], Any] = np.median) -> float:
    """Take the median, or the mean, of what is known; NaN where nothing is."""
    known = values.dropna().to_numpy(np.float64)
    return float(how(known)) if len(known) else np.nan


def agreement(one: pd.Series, other: pd.Series) -> float:
    """Compare two partitions of the same places by the adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(one, other.reindex(one.index)))


def markdown(table: pd.DataFrame) -> str:
    """Write the table in Markdown, rounded; what nobody knows is a dash, and a column of dashes is left out."""
    shown = {name: [_cell(name, value) for value in table[name]] for name in table.columns}
    shown = {name: cells for name, cells in shown.items() if set(cells) != {"–"} or name == "ari"}
    lines = [[name.replace("_", " ") for name in shown], ["---"] * len(shown), *zip(*shown.values(), strict=True)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(name: str, value: Any) -> str:
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if name in ("epochs", "width"):
        return f"{value:g}" if value else "–"
    if isinstance(value, float):
        return f"{value:.3f}" if name.startswith(("ari", "nmi", "agreement")) else f"{value:.4g}"
    return str(value)


def state_of(files: list[tuple[str, int, int]]) -> str:
    """Summarise what a section is read from, and by which version."""
    return hashlib.sha256(json.dumps([VERSION, files]).encode()).hexdigest()[:16]
