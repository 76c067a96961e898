"""The presets: all settings of the model and of its training."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Final, Literal, get_args

from stmmr._core import keys, log, parallel, untrusted
from stmmr._core.checks import InputError, listed, require_choice
from stmmr._core.options import Checked, check_argument

Likelihood = Literal["zinb", "nb", "gaussian"]
BlockLikelihood = Literal["nb", "zinb", "bernoulli", "gaussian"]
Contrast = Literal["similarity", "mutual_information"]
Features = Literal["genes", "pca"]
Preset = Literal["default", "paper"]
Mode = Literal["auto", "memory", "disk"]
"""Keep counts in memory or read them from disk in chunks."""


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """All settings of the model and of its training.

    Raises
    ------
    InputError
        If a value is out of its range or not among its choices.
    """

    features: Features
    """Input of the expression encoder: the highly variable genes, or their principal components."""
    n_components: int
    """Number of principal components of the expression with `features` "pca", and the most that are computed of each
    further block."""
    hidden: int
    """Width of the layer between the two graph convolutions; 0: a single linear layer."""
    latent: int
    """Width of the embedding; 0: the number of informative components (with `features` "pca" only)."""
    decoder_hidden: int
    """Width of the decoder's hidden layer."""
    likelihood: Likelihood
    """Likelihood of the expression: "nb" of the raw counts, "zinb" of the normalised values (as published), or
    "gaussian"."""
    contrast: Contrast
    """Loss that aligns the blocks with each other."""
    attention: bool
    """Whether each block attends over all spots before the fusion."""
    dropout: float
    """Dropout rate of the attention weights and in the alignment."""
    expression_weight: float
    """Weight of the expression in the fusion."""
    histology_weight: float | None
    """Weight of the histology in the fusion; None: the share of the expression embedding that the histology predicts in
    held-out areas of the tissue (cross-validated R²)."""
    train_encoders: bool
    """Whether the encoders are trained; otherwise they keep their first weights."""
    aligned_weight: float
    """Weight of the aligned representation in the fusion; 0: no alignment."""
    likelihood_loss: float
    """Weight of the likelihood in the loss."""
    contrast_loss: float
    """Weight of the alignment loss in the loss."""
    graph_loss: float
    """Weight of the graph reconstruction in the loss."""
    learning_rate: float
    """Learning rate of Adam."""
    weight_decay: float
    """Weight decay (L2 penalty) of Adam."""
    steps: int
    """Number of Adam steps; with `batch_size` 0, a step is an epoch."""
    batch_size: int
    """Number of spots drawn for each step; 0: all spots in one batch."""
    landmarks: int = 4000
    """Number of clusters that attention reads instead of all spots, where there are more than 50,000 spots; 0: always
    all spots."""

    def __post_init__(self) -> None:
        """Check ranges and choices."""
        choices = {"features": Features, "likelihood": Likelihood, "contrast": Contrast}
        for name, literal in choices.items():
            require_choice(getattr(self, name), get_args(literal), name=name)
        super().__post_init__()
        for name, from_data in (("latent", 0), ("histology_weight", None)):
            if getattr(self, name) == from_data and not self.starts_linear:
                raise InputError(f"Expected {name} with features 'genes' or hidden layers, found {from_data!r}.")

    @property
    def starts_linear(self) -> bool:
        """Whether the first weights are the linear embedding of the data; otherwise they are drawn at random."""
        return self.features == "pca" and not self.hidden

    @property
    def is_linear(self) -> bool:
        """Whether the embedding stays this linear one: it needs neither training nor torch, only a decoder does."""
        trains = self.train_encoders or self.aligned_weight or self.contrast_loss or self.graph_loss
        return self.starts_linear and not (trains or self.attention)

    def but(self, **changes: object) -> Settings:
        """Copy with some settings changed.

        Raises
        ------
        InputError
            If there is no such setting.
        """
        unknown = sorted(set(changes) - set(asdict(self)))
        if unknown:
            raise InputError(f"Expected settings among {listed(asdict(self), at_most=30)}, found {listed(unknown)}.")
        return replace(self, **changes)  # type: ignore[arg-type]  # checked by __post_init__


@dataclass(frozen=True)
class Block:
    """A further kind of measurement of the same spots, beside the expression.

    Raises
    ------
    InputError
        If the likelihood is not among its choices or the weight is negative.
    """

    key: str
    """Key of ``obsm``."""
    likelihood: BlockLikelihood | None = None
    """Distribution of the values: "nb" for counts (proteins), "zinb" for values ≥ 0 with many zeros, "bernoulli" for
    presence or absence (ATAC peaks), "gaussian" for continuous values. Such a block contributes to the embedding like
    the expression. None: features of an image, of which the model uses the part that predicts the other blocks."""
    weight: float | None = None
    """Weight in the fusion. None: 1 with a likelihood; without one, the share of the other blocks' embedding that this
    block predicts in held-out areas of the tissue (1 where the encoders are not linear)."""

    def __post_init__(self) -> None:
        """Check ranges and choices."""
        if self.likelihood is not None:
            require_choice(self.likelihood, get_args(BlockLikelihood), name="likelihood")
        if self.weight is not None and not 0 <= self.weight < math.inf:
            raise InputError(f"Expected the weight of a block ≥ 0, found {self.weight!r}.")


Blocks = Mapping[str, Block] | Iterable[str]
"""Blocks by name, or as texts ``NAME=KEY`` and ``NAME=KEY:LIKELIHOOD``."""
EXPRESSION: Final = "expression"
"""Name of the first block."""
IMAGE: Final = "histology"
"""Name of the block that ``use_histology`` adds."""


def named_blocks(blocks: Blocks | None, *, histology: bool = False) -> dict[str, Block]:
    """Get blocks by name; with `histology`, the name "histology" is taken.

    Raises
    ------
    InputError
        If a text does not describe a block, or two blocks have the same name.
    """
    if isinstance(blocks, str) or not isinstance(blocks, Iterable | None):
        raise InputError(f"Expected a mapping of blocks, or a list of texts NAME=KEY, found {blocks!r}.")
    pairs = list(blocks.items()) if isinstance(blocks, Mapping) else [_parsed(text) for text in blocks or ()]
    named: dict[str, Block] = {}
    for name, block in pairs:
        if not name or "/" in name:
            raise InputError(f"Expected a name without '/' for each block, found {name!r}.")
        if name in (EXPRESSION, *named) or (histology and name == IMAGE):
            raise InputError(f"Expected blocks of different names, found two named {name!r}. Rename one of them.")
        named[name] = block
    return named


def _parsed(text: str) -> tuple[str, Block]:
    """Parse NAME=KEY or NAME=KEY:LIKELIHOOD."""
    name, equals, key = text.partition("=")
    if not (equals and key):
        raise InputError(f"Expected a block as NAME=KEY or NAME=KEY:LIKELIHOOD, found {text!r}.")
    key, _, likelihood = key.partition(":")
    return name, Block(key, likelihood or None)  # type: ignore[arg-type]  # checked by the block


def used_blocks(blocks: Mapping[str, Block], *, histology: bool, histology_weight: float | None) -> dict[str, Block]:
    """Put the histology, where the model uses it, before the other blocks."""
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


def settings_of(preset: str, **changes: object) -> Settings:
    """Get the settings of a preset, with some of them changed."""
    require_choice(preset, PRESETS, name="preset")
    return PRESETS[preset].but(**changes)


class _Module(ModuleType):
    """Module with settings that act when they are set."""

    @property
    def verbosity(self) -> int:
        """Which messages are shown: 0 errors, 1 warnings and one line of result (default), 2 each step, 3 details.

        Programs that set up `logging` themselves choose by ``logging.getLogger("stmmr").setLevel(…)`` as well.
        """
        return log.verbosity()

    @verbosity.setter
    def verbosity(self, level: int) -> None:
        log.set_verbosity(level)

    @property
    def max_memory(self) -> float | None:
        """Memory in GB that reading a file may take; None (default): what is free.

        A file that holds more by what it declares is an `InputError`, before memory is taken.
        """
        return untrusted.max_memory()

    @max_memory.setter
    def max_memory(self, gigabytes: float | None) -> None:
        untrusted.set_max_memory(gigabytes)

    @property
    def threads(self) -> int | None:
        """Largest number of threads that stmmr uses at once; None (default): one for each available core.

        ``threads=`` of `stmmr.run` (``--threads``) chooses it for one run, and limits NumPy, SciPy, scikit-learn and
        PyTorch as well.
        """
        return parallel.chosen_threads()

    @threads.setter
    def threads(self, n: int | None) -> None:
        """Choose the number of threads."""
        if n is not None:
            check_argument("threads", n, default=None, annotation="int")
        parallel.set_threads(n)


sys.modules[__name__].__class__ = _Module
