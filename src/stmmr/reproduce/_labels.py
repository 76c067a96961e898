"""Expert labels: their file is checked before a run, but they are read only after its domains are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core.categories import is_absent
from stmmr._core.checks import InputError, listed
from stmmr._core.files import parsing
from stmmr.io._peek import peek

if TYPE_CHECKING:
    from pathlib import Path

    from stmmr.reproduce._recipes import Labels

CELL: Final = re.compile(r"c_\d+_(\d+)_(\d+)")
"""Name of a CosMx cell in newer files: slide, field of view, cell."""


@dataclass(frozen=True)
class LabelSource:
    """Labels of one section, not read yet.

    Parameters
    ----------
    labels
        Description of the labels in the recipe.
    names
        Names of the spots of the section.
    path
        Table with the labels.
    stored
        Labels that were a column of an .h5ad, set aside when the file was read.
    """

    labels: Labels
    names: pd.Index
    path: Path | None = None
    stored: pd.Series | None = None

    def check(self) -> None:
        """Check that the table has a column of labels for these spots; only its header and first column are read.

        Raises InputError if there is no such column, or all rows are of other spots.
        """
        if self.path is None:
            return
        self._column(self.path)
        names = _cell_names(pd.Index(self._columns(self.path, [0])[0]))
        if not names.isin(self.names).any():
            raise InputError(
                f"Expected labels for the spots of this section (such as {self.names[0]}) in {self.path}, found other "
                f"names ({listed(names[:2])}). Use the file of the same section."
            )

    def read(self) -> pd.Series:
        """Read the label of each spot, None if it has none; shape (n_obs,)."""
        if self.path is None:
            assert self.stored is not None  # noqa: S101 - labels have a table or are stored
            labels = self.stored.astype(str)
        else:
            table = self._columns(self.path, [0, self._column(self.path)])
            names, values = table.to_numpy().T
            labels = pd.Series(values, index=_cell_names(pd.Index(names)))
            labels = labels[~labels.index.duplicated()]
        labels = labels.reindex(self.names)
        if self.labels.merged and labels.isin(list(self.labels.merged)).any():
            labels = labels.map(dict(self.labels.merged))
        return labels.mask(labels.map(is_absent).astype(bool), None)

    def _column(self, path: Path) -> int:
        """Find the position of the column with the labels."""
        header = peek(path).header
        column = next((name for name in self.labels.columns if name in header), None)
        if column is not None:
            return header.index(column)
        if _without_header(path):
            return 1
        raise InputError(
            f"Expected a column {' or '.join(self.labels.columns)} with the labels in {path}, found {listed(header)}. "
            "Use the authors' file."
        )

    def _columns(self, path: Path, columns: list[int]) -> pd.DataFrame:
        with parsing(path, expected="a table of labels"):
            table: pd.DataFrame = pd.read_csv(
                path,
                sep=peek(path).separator,
                header=None,
                skiprows=0 if _without_header(path) else 1,
                usecols=columns,
                dtype=str,
                keep_default_na=False,
            )
            return table


def _without_header(path: Path) -> bool:
    """Check whether a table of labels has no header."""
    return path.name.endswith("truth.txt")


def _cell_names(names: pd.Index) -> pd.Index:
    """Name CosMx cells by number and field of view, as the reader does; other names stay."""
    return pd.Index([f"{cell[2]}_{cell[1]}" if (cell := CELL.fullmatch(str(name))) else str(name) for name in names])


def scores(truth: pd.Series, domains: pd.Series) -> dict[str, float]:
    """Compare domains with labels: ARI, NMI (arithmetic mean) and the number of spots that have a label."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    both = truth.notna() & domains.notna()
    if not both.any():
        return {"ari": np.nan, "nmi": np.nan, "n_labelled": 0}
    labels, clusters = truth[both].astype(str), domains[both].astype(str)
    return {
        "ari": float(adjusted_rand_score(labels, clusters)),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "n_labelled": int(both.sum()),
    }
