"""The table: one row for each run, saved when it finishes, and the summary over seeds and sections."""

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

    from stmmr._core.types import Float64

KEY: Final = ["section", "preset", "epochs", "width", "root", "seed"]
"""Columns that identify a run. Epochs and width are 0 except for "paper"; root is the root domain of pseudotime."""
COLUMNS: Final = [
    "dataset",
    *KEY,
    "domains_expected",
    "domains",
    "ari",
    "nmi",
    "n_labelled",
    "n_spots",
    "genes_read",
    "image",
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
    """Finished runs in a folder: ``rows.csv`` and the domains of each run.

    Parameters
    ----------
    folder
        Folder of the results; created if it is missing.
    dataset
        Name of the recipe.
    states
        State of the files of each section, from `state_of`. Rows of other data or another version are dropped.

    Raises InputError if the folder holds the table of another data set.
    """

    def __init__(self, folder: Path, dataset: str, states: dict[str, str]) -> None:
        self.folder, self.dataset = folder, dataset
        (folder / "domains").mkdir(parents=True, exist_ok=True)
        self.path = folder / "rows.csv"
        self.rows: list[dict[str, Any]] = []
        self.truth: dict[str, pd.Series | None] = {}
        if self.path.exists():
            self.rows = self._saved_rows(states)

    def _saved_rows(self, states: dict[str, str]) -> list[dict[str, Any]]:
        with parsing(self.path, expected="the rows of an earlier run"):
            table = pd.read_csv(
                self.path,
                dtype={"section": str, "root": str, "notes": str, "domains_expected": str},
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
                "another output folder (--output)."
            )
        stale = [row for row in rows if states.get(row["section"], row["state"]) != row["state"]]
        if stale:
            logger.info("The data or the version changed for %d finished runs. They are run again.", len(stale))
        return [row for row in rows if row not in stale and self.domains_path(row).is_file()]

    def domains_path(self, row: dict[str, Any]) -> Path:
        """Get the file with the domains of a run."""
        parts = (row["section"], row["preset"], row["root"], *(f"{column[0]}{row[column]:g}" for column in KEY[2:4]))
        name = "_".join(str(part) for part in parts if part not in ("", "e0", "w0"))
        return self.folder / "domains" / f"{name}_seed{row['seed']:g}.csv".replace("/", "-")

    def is_done(self, key: dict[str, Any]) -> bool:
        """Check whether a run is finished."""
        return any(all(row[name] == key[name] for name in KEY) for row in self.rows)

    def add(self, row: dict[str, Any], domains: pd.DataFrame, *, truth: Callable[[], pd.Series | None]) -> None:
        """Save a run: first its domains, then its row; labels are read in between."""
        with atomic_write(self.domains_path(row)) as new:
            domains.to_csv(new)
        if row["section"] not in self.truth:
            self.truth[row["section"]] = truth()
        self.rows.append({name: row.get(name) for name in COLUMNS})
        self.write()

    def domains(self, row: dict[str, Any]) -> pd.Series:
        """Read the domains of a run."""
        domains: pd.Series = pd.read_csv(self.domains_path(row), index_col=0, dtype=str)["domain"]
        return domains

    def write(self) -> pd.DataFrame:
        """Compare all runs with the labels, write ``rows.csv``, ``table.csv`` and ``table.md``, and get the table."""
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
        """Summarise runs over seeds and, if there are several, over sections."""
        rows = rows.astype(dict.fromkeys(("ari", "nmi", "seconds", "peak_memory_mb"), float))
        default = {(r["section"], r["seed"]): self.domains(r) for r in self.rows if r["preset"] == "default"}
        table = pd.DataFrame(
            [self._over_seeds(dict(zip(GROUP, key, strict=True)), runs, default) for key, runs in _groups(rows)]
        )
        return pd.concat([table, pd.DataFrame(_over_sections(table))], ignore_index=True)

    def _over_seeds(
        self, key: dict[str, Any], runs: pd.DataFrame, default: dict[tuple[str, int], pd.Series]
    ) -> dict[str, Any]:
        by_seed = {seed: self.domains(key | {"seed": seed}) for seed in runs["seed"]}
        between_seeds = [agreement(a, b) for a, b in combinations(by_seed.values(), 2)]
        defaults = {seed: default.get((key["section"], seed)) for seed in by_seed}
        with_default = [agreement(by_seed[seed], domains) for seed, domains in defaults.items() if domains is not None]
        if key["preset"] == "default":
            with_default = []
        notes = dict.fromkeys(note for text in runs["notes"] for note in str(text).split("; ") if note)
        return key | {
            "domains_expected": runs["domains_expected"].iloc[0],
            "domains": _average(runs["domains"]),
            "ari": _average(runs["ari"]),
            "ari_sd": runs["ari"].std(ddof=0) if len(runs) > 1 else np.nan,
            "nmi": _average(runs["nmi"]),
            "seeds": len(runs),
            "agreement_of_seeds": float(np.median(between_seeds)) if between_seeds else np.nan,
            "agreement_with_default": float(np.median(with_default)) if with_default else np.nan,
            "neighbours": runs["neighbours"].iloc[0],
            "image": runs["image"].iloc[0],
            "seconds": _average(runs["seconds"]),
            "peak_memory_mb": runs["peak_memory_mb"].max(),
            "notes": "; ".join(notes),
        }


def _groups(rows: pd.DataFrame) -> Iterable[tuple[tuple[Any, ...], pd.DataFrame]]:
    yield from rows.groupby(GROUP, sort=False)


def _over_sections(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Compute mean and median over sections, for each preset that ran on several sections one by one."""
    rows: list[dict[str, Any]] = []
    for key, runs in table.groupby(GROUP[1:-1], sort=False):
        runs = runs[~runs["section"].str.contains("+", regex=False)]
        n_sections = runs["section"].nunique()
        if n_sections < 2:
            continue
        averages: list[Callable[[Float64], Any]] = [np.mean, np.median]
        for name, average in zip(ALL, averages, strict=True):
            row: dict[str, Any] = dict(zip(GROUP[1:-1], key, strict=True))
            row |= {"section": f"{name} ({n_sections})", "root": "", "seeds": int(runs["seeds"].min())}
            row |= {column: _average(runs[column], average=average) for column in AVERAGED}
            rows.append(row | {"peak_memory_mb": runs["peak_memory_mb"].max()})
    return rows


def _average(values: pd.Series, *, average: Callable[[Float64], Any] = np.median) -> float:
    """Compute the median, or another average, of the values that are not missing; NaN if all are."""
    known = values.dropna().to_numpy(np.float64)
    return float(average(known)) if len(known) else np.nan


def agreement(first: pd.Series, second: pd.Series) -> float:
    """Compare two partitions of the same spots by the adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(first, second.reindex(first.index)))


def markdown(table: pd.DataFrame) -> str:
    """Write the table in Markdown, with rounded numbers; missing values are dashes, columns without values left out."""
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
    """Hash the files of a section and the version of stmmr."""
    return hashlib.sha256(json.dumps([VERSION, files]).encode()).hexdigest()[:16]
