"""The options of a reproduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from stmmr._core.checks import InputError, listed, require_choice
from stmmr._core.options import Checked

Preset = Literal["baseline", "default", "auto", "paper"]
"""Rows of the table: the linear baseline, the default with the number of domains of the paper or its own, the published
model."""


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Checked):
    """Options of `stmmr.reproduce.reproduce` and ``stmmr reproduce``.

    Raises
    ------
    InputError
        If a value is out of its range or not among its choices.
    """

    sections: Sequence[str] = ()
    """Sections to run, such as 151507 of dlpfc, D4 of chicken-heart or the number of a field of view of cosmx-lung. By
    default those that the paper shows and that the data contain."""
    together: bool = False
    """Fit one model to several sections of dlpfc instead of one to each. If no sections are named: 151673 to 151676."""
    presets: Sequence[Preset] = ("baseline", "default", "auto", "paper")
    """Rows of the table: "baseline", the linear baseline; "default", with the number of domains of the paper; "auto",
    the default that also chooses the number of domains; "paper", the published model with the authors' settings for
    this data set."""
    n_seeds: int = 1
    """Number of runs of each preset, with the seeds 110 (the authors'), 111 and so on."""
    epochs: int | None = None
    """Epochs of "paper", if those of the authors take too long. The table notes this."""
    width: int | None = None
    """Width of "paper", if that of the authors takes too long. The table notes this."""
    root_domain: str | None = None
    """Domain in which the pseudotime of chicken-heart starts. By default, or if a run has no such domain,
    `stmmr.tl.trajectory` chooses it."""
    progress: bool = True
    """Show progress bars."""

    def __post_init__(self) -> None:
        """Check ranges and choices."""
        super().__post_init__()
        if not self.presets:
            raise InputError(f"Expected presets among {listed(get_args(Preset))}, found none.")
        for preset in self.presets:
            require_choice(preset, get_args(Preset), name="preset")
