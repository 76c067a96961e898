"""Expert labels: where they stand is looked up before a run, what they are only when domains are there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core.checks import InputError, listed
from stmmr._core.files import parsing
from stmmr.io._flat import peek

if TYPE_CHECKING:
    from pathlib import Path

    from stmmr.reproduce._recipes import Labels

MISSING: Final = ("", "nan", "NaN", "NA", "None")
CELL: Final = re.compile(r"c_\d+_(\d+)_(\d+)")
"""Name of a CosMx cell in newer files: slide, field of view, cell."""


@dataclass(frozen=True)
class LabelSource:
    """Labels of one section, not read yet.

    Parameters
    ----------
    labels
        How the recipe describes them.
    names
        Places that they are of.
    path
        The table.
    kept
        Values that came with an .h5ad, set aside when it was read.
    """

    labels: Labels
    names: pd.Index
    path: Path | None = None
    kept: pd.Series | None = None

    def check(self) -> None:
        """Check that the table has such a column and is of these places; only its header and first column are read.

        Raises
        ------
        InputError
            If it has not, or is of none of them.
        """
        if self.path is None:
            return
        self._column(self.path)
        named = _like_cells(pd.Index(self._columns(self.path, [0])[0]))
        if not named.isin(self.names).any():
            raise InputError(
                f"Expected labels of the places of this section in {self.path} (such as {self.names[0]}), found none: "
                f"it is of {listed(named[:2])}. Take the file of the same section."
            )

    def read(self) -> pd.Series:
        """Read the label of each place, None where it has none; shape (N,)."""
        if self.path is None:
            assert self.kept is not None  # noqa: S101 - one of both is given
            found = self.kept.astype(str)
        else:
            table = self._columns(self.path, [0, self._column(self.path)])
            names, values = table.to_numpy().T
            found = pd.Series(values, index=_like_cells(pd.Index(names)))
            found = found[~found.index.duplicated()]
        found = found.reindex(self.names)
        if self.labels.merged and found.isin(list(self.labels.merged)).any():
            found = found.map(dict(self.labels.merged))
        return found.where(~found.isin(MISSING), None).where(found.notna(), None)

    def _column(self, path: Path) -> int:
        """Find the column with the labels."""
        header = peek(path).header
        found = next((name for name in self.labels.columns if name in header), None)
        if found is not None:
            return header.index(found)
        if _bare(path):
            return 1
        raise InputError(
            f"Expected a column {' or '.join(self.labels.columns)} with the labels in {path}, found {listed(header)}. "
            "Take the authors' file."
        )

    def _columns(self, path: Path, columns: list[int]) -> pd.DataFrame:
        with parsing(path, expected="a table of labels"):
            table: pd.DataFrame = pd.read_csv(
                path,
                sep=peek(path).separator,
                header=None,
                skiprows=0 if _bare(path) else 1,
                usecols=columns,
                dtype=str,
                keep_default_na=False,
            )
            return table


def _bare(path: Path) -> bool:
    """Tell whether a table has no header."""
    return path.name.endswith("truth.txt")


def _like_cells(names: pd.Index) -> pd.Index:
    """Name CosMx cells as the reader does, by number and field of view; other names stay."""
    return pd.Index([f"{cell[2]}_{cell[1]}" if (cell := CELL.fullmatch(str(name))) else str(name) for name in names])


def scores(truth: pd.Series, domains: pd.Series) -> dict[str, float]:
    """Compare domains with labels, over the places that have one: ARI, NMI (arithmetic mean) and how many they are."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    both = truth.notna() & domains.notna()
    if not both.any():
        return {"ari": np.nan, "nmi": np.nan, "n_labelled": 0}
    expected, found = truth[both].astype(str), domains[both].astype(str)
    return {
        "ari": float(adjusted_rand_score(expected, found)),
        "nmi": float(normalized_mutual_info_score(expected, found)),
        "n_labelled": int(both.sum()),
    }
