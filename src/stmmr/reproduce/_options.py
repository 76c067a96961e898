"""The options of a reproduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from stmmr._core.checks import InputError, listed, require_choice, require_positive

Preset = Literal["baseline", "default", "auto", "paper"]
"""A row of the table: the linear baseline, the default with the paper's number of domains or its own, the published."""


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Options of `stmmr.reproduce.reproduce` and ``stmmr reproduce``.

    Raises
    ------
    InputError
        If a value is out of its range or not among its choices.
    """

    sections: Sequence[str] = ()
    """Sections to run, such as 151507 of dlpfc, D4 of chicken-heart or the number of a field of view of cosmx-lung. By
    default those that the paper shows and that the data hold."""
    together: bool = False
    """Fit one model to several sections of dlpfc instead of one to each; 151673 to 151676 if no sections are named."""
    presets: Sequence[Preset] = ("baseline", "default", "auto", "paper")
    """Rows of the table: "baseline", the linear baseline; "default" with the paper's number of domains; "auto", the
    default that chooses the number as well; "paper", the published model with the authors' settings for this data
    set."""
    n_seeds: int = 1
    """Runs of each, with the seeds 110 (the authors'), 111 and so on."""
    epochs: int | None = None
    """Epochs of "paper", where those of the authors take too long. The table notes them."""
    width: int | None = None
    """Width of "paper", where that of the authors takes too long. The table notes it."""
    root_domain: str | None = None
    """Domain that the pseudotime of chicken-heart starts in. Without it, or where a run has no such domain, the rule of
    `stmmr.tl.trajectory` decides."""
    progress: bool = True
    """Show progress bars."""

    def __post_init__(self) -> None:
        """Check ranges and choices."""
        if not self.presets:
            raise InputError(f"Expected presets among {listed(get_args(Preset))}, found none.")
        for preset in self.presets:
            require_choice(preset, get_args(Preset), name="preset")
        for name in ("n_seeds", "epochs", "width"):
            if (number := getattr(self, name)) is not None:
                require_positive(number, name=name)
