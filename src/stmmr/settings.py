"""The presets: every setting of the model and of its training, in one place."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any, Final, Literal, get_args

from stmmr._core import keys, log
from stmmr._core.checks import InputError, listed, require_choice, require_positive

Likelihood = Literal["zinb", "nb", "gaussian"]
BlockLikelihood = Literal["nb", "zinb", "bernoulli", "gaussian"]
Contrast = Literal["similarity", "mutual_information"]
Features = Literal["genes", "pca"]
Preset = Literal["default", "paper"]
Mode = Literal["auto", "memory", "disk"]
"""Keep counts in memory or read them from disk in chunks."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that shapes the model and its training.

    Raises
    ------
    InputError
        If a value is out of its range or not among its choices.
    """

    features: Features
    """What the expression encoder reads: the highly variable genes, or their principal components."""
    n_components: int
    """Principal components of the expression and, at most, of the histology, where `features` is "pca"."""
    hidden: int
    """Width between the two convolutions; 0 for one pair of weights."""
    latent: int
    """Width of the embedding; 0: as many components as stand out from the noise (with `features` "pca" only)."""
    decoder_hidden: int
    """Width of the decoder's hidden layer."""
    likelihood: Likelihood
    """Likelihood of the expression: "zinb" of the normalised values (as published), "nb" of the counts."""
    contrast: Contrast
    """Loss that aligns the modalities."""
    attention: bool
    """Whether each modality attends over all places before the fusion."""
    dropout: float
    """Share of entries dropped after the attention and in the alignment."""
    expression_weight: float
    """Weight of the expression in the fusion."""
    histology_weight: float | None
    """Weight of the histology in the fusion; None: the share of the expression that the histology predicts in parts of
    the tissue left out."""
    train_encoders: bool
    """Whether the encoders are trained, or kept as they start."""
    aligned_weight: float
    """Weight of the aligned part in the fusion; 0 leaves the alignment out."""
    likelihood_loss: float
    """Weight of the likelihood."""
    contrast_loss: float
    """Weight of the alignment loss."""
    graph_loss: float
    """Weight of the graph reconstruction."""
    learning_rate: float
    """Step size of Adam."""
    weight_decay: float
    """L2 penalty of Adam."""
    steps: int
    """Steps of Adam; with all places in one batch, a step is an epoch."""
    batch_size: int
    """Places drawn for a step, by which losses over all pairs are estimated; 0 reads all of them."""
    landmarks: int = 4000
    """Means of clusters of places that attention reads in place of all, where there are more than 50,000; 0 reads all
    of them always."""

    def __post_init__(self) -> None:
        """Check ranges and choices."""
        choices = {"features": Features, "likelihood": Likelihood, "contrast": Contrast}
        for name, literal in choices.items():
            require_choice(getattr(self, name), get_args(literal), name=name)
        for name in ("n_components", "decoder_hidden", "learning_rate"):
            require_positive(getattr(self, name), name=name)
        linear = self.features == "pca" and not self.hidden
        for name, from_data in (("latent", 0), ("histology_weight", None)):
            if getattr(self, name) == from_data and not linear:
                raise InputError(f"Expected {name} with features 'genes' or hidden layers, found {from_data!r}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"Expected dropout in [0, 1), found {self.dropout!r}.")

    def but(self, **changes: Any) -> Settings:
        """Copy with some settings changed.

        Raises
        ------
        InputError
            If there is no such setting.
        """
        unknown = sorted(set(changes) - set(asdict(self)))
        if unknown:
            raise InputError(f"Expected settings among {listed(asdict(self), at_most=30)}, found {listed(unknown)}.")
        return replace(self, **changes)


@dataclass(frozen=True)
class Block:
    """One more kind of measurement at the places, beside the expression.

    Raises
    ------
    InputError
        If the likelihood is none of its choices or the weight is negative.
    """

    key: str
    """Key of ``obsm``."""
    likelihood: BlockLikelihood | None = None
    """What the values are: "nb" for counts (protein), "zinb" for values ≥ 0 with many zeros, "bernoulli" for what is
    there or not (peaks of ATAC), "gaussian" for measured numbers. The embedding is then found from this block as from
    the expression. None for features of a picture, which are read for what they tell of the others."""
    weight: float | None = None
    """Weight in the fusion. None: 1 with a likelihood; without one the share of the others' embedding that the block
    predicts in parts of the tissue left out (1 where the encoders are not linear)."""

    def __post_init__(self) -> None:
        """Check ranges and choices."""
        if self.likelihood is not None:
            require_choice(self.likelihood, get_args(BlockLikelihood), name="likelihood")
        if self.weight is not None and not 0 <= self.weight < math.inf:
            raise InputError(f"Expected the weight of a block ≥ 0, found {self.weight!r}.")


Blocks = Mapping[str, Block] | Iterable[str]
"""Blocks by name, or as ``NAME=KEY`` and ``NAME=KEY:LIKELIHOOD``."""
EXPRESSION: Final = "expression"
"""Name of the first block."""
IMAGE: Final = "histology"
"""Name of the block that ``use_histology`` adds."""


def named_blocks(blocks: Blocks | None, *, histology: bool = False) -> dict[str, Block]:
    """Get blocks by name; `histology` says whether its name is taken.

    Raises
    ------
    InputError
        If a text is no block, or two blocks have one name.
    """
    pairs = list(blocks.items()) if isinstance(blocks, Mapping) else [_parsed(text) for text in blocks or ()]
    named: dict[str, Block] = {}
    for name, block in pairs:
        if not name or "/" in name:
            raise InputError(f"Expected a name without '/' for each block, found {name!r}.")
        if name in (EXPRESSION, *named) or (histology and name == IMAGE):
            raise InputError(f"Expected blocks of different names, found two named {name!r}. Give one another name.")
        named[name] = block
    return named


def _parsed(text: str) -> tuple[str, Block]:
    """Read NAME=KEY or NAME=KEY:LIKELIHOOD."""
    name, equals, key = text.partition("=")
    if not (equals and key):
        raise InputError(f"Expected a block as NAME=KEY or NAME=KEY:LIKELIHOOD, found {text!r}.")
    key, _, likelihood = key.partition(":")
    return name, Block(key, likelihood or None)  # type: ignore[arg-type]  # checked by the block


def used_blocks(blocks: Mapping[str, Block], *, histology: bool, histology_weight: float | None) -> dict[str, Block]:
    """Put the histology, where it is read, before the other blocks."""
    image = {IMAGE: Block(keys.HISTOLOGY, weight=histology_weight)} if histology else {}
    return image | dict(blocks)


PRESETS: dict[str, Settings] = {
    # Zhang et al., GigaScience 2024, doi:10.1093/gigascience/giae089, and the authors' code
    "paper": Settings(
        features="genes",
        n_components=50,
        hidden=3000,
        latent=3000,
        decoder_hidden=3000,
        likelihood="zinb",
        contrast="similarity",
        attention=True,
        dropout=0.1,
        expression_weight=20.0,
        histology_weight=1.0,
        train_encoders=True,
        aligned_weight=10.0,
        likelihood_loss=10.0,
        contrast_loss=1.0,
        graph_loss=10.0,
        learning_rate=1e-4,
        weight_decay=1e-4,
        steps=200,
        batch_size=0,
    ),
    "default": Settings(
        features="pca",
        n_components=50,
        hidden=0,
        latent=0,
        decoder_hidden=64,
        likelihood="nb",
        contrast="similarity",
        attention=False,
        dropout=0.0,
        expression_weight=1.0,
        histology_weight=None,
        train_encoders=False,
        aligned_weight=0.0,
        likelihood_loss=1.0,
        contrast_loss=0.0,
        graph_loss=0.0,
        learning_rate=1e-2,
        weight_decay=0.0,
        steps=150,
        batch_size=256,
    ),
}


def settings_of(preset: str, **changes: Any) -> Settings:
    """Get a preset, with some settings changed."""
    require_choice(preset, PRESETS, name="preset")
    return PRESETS[preset].but(**changes)


class _Module(ModuleType):
    """Module with a setting that acts when it is set."""

    @property
    def verbosity(self) -> int:
        """Which messages are shown: 0 errors, 1 warnings and one line of result (default), 2 each step, 3 details.

        Programs that set up `logging` themselves choose by ``logging.getLogger("stmmr").setLevel(…)`` as well.
        """
        return log.verbosity()

    @verbosity.setter
    def verbosity(self, level: int) -> None:
        log.set_verbosity(level)


sys.modules[__name__].__class__ = _Module
