"""What encoders with a torch network share: normalise, batch and pool, on any device."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

import numpy as np

from stmmr._core import checks
from stmmr._core.checks import InputError, logger
from stmmr._core.fingerprints import digest

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

Pooling = Literal["cls", "mean", "cls+mean"]
Precision = Literal["bf16"]

UM_PER_PX: Final = 0.5
"""µm per pixel at 20×, at which nearly all models of histology were trained."""
COARSE: Final = 2.0
"""How many times coarser than the patches an image may be before a warning."""
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
NOT_FITTED: Final = "The encoder is not fitted; call fit first."


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The patches that a model expects."""

    patch_px: int
    """Pixels of a side."""
    mean: tuple[float, ...]
    """Per channel, of values from 0 to 1."""
    std: tuple[float, ...]


@dataclass(kw_only=True)
class TorchEncoder(ABC):
    """An encoder whose model is a network of torch; a subclass for each library finds, loads and runs the model.

    The model is found and its configuration read when the encoder is made; `fit` loads the weights. Up to rounding, the
    features do not depend on the batch. One batch is computed at a time, whatever the number of threads.
    """

    model: str | Path = field(kw_only=False)
    """Folder with the model, or its name."""
    pooling: Pooling | None = None
    """Which tokens are the features: the class token, the mean of the patch tokens, or both, one after the other; None
    takes the class token if the model has one. A CNN has the mean only."""
    um_per_px: float = UM_PER_PX
    """µm per pixel of the patches; times the pixels that the model reads, this is the field of view."""
    diameter_um: float | tuple[float, ...] | None = None
    """Field of view, or several, in µm, instead of `um_per_px`."""
    patch_px: int = 0
    """Pixels of a side of the patches; 0 takes those of the model's configuration."""
    mean: tuple[float, ...] | None = None
    """Mean of the channels that is subtracted, of values from 0 to 1; None takes the model's own."""
    std: tuple[float, ...] | None = None
    """Standard deviation of the channels by which they are divided; None takes the model's own."""
    device: str = "auto"
    """``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; auto takes the first GPU, if any."""
    precision: Precision | None = None
    """bf16 computes with half the bits, several times faster on GPUs; features then have two or three exact digits."""
    batch_size: int = 64
    """Patches that are on the device at a time."""
    name: str = ""
    """Name that is recorded; by default that of the model."""

    def __post_init__(self) -> None:
        checks.require_extra("torch", extra="torch")
        if self.pooling is not None:
            checks.require_choice(self.pooling, get_args(Pooling), name="pooling")
        if self.precision is not None:
            checks.require_choice(self.precision, get_args(Precision), name="precision")
        for option in ("um_per_px", "batch_size"):
            checks.require_positive(getattr(self, option), name=option)
        for diameter in self._diameters():
            checks.require_positive(diameter, name="diameter_um")
        expected = self._find()
        self.patch_px = self.patch_px or expected.patch_px
        self.mean, self.std = tuple(self.mean or expected.mean), tuple(self.std or expected.std)
        self._reset()

    @property
    def diameters_um(self) -> tuple[float, ...]:
        """Sides of the patches around a spot, in µm."""
        return self._diameters() or (self.patch_px * self.um_per_px,)

    @property
    def feature_names(self) -> list[str]:
        """Names of the features: token, number and field of view."""
        if self._network is None:
            raise RuntimeError(NOT_FITTED)
        return [f"{part}_{i}_{um:g}um" for um in self.diameters_um for part in self._parts for i in range(self._width)]

    @property
    def fingerprint(self) -> str:
        """Hash of what determines the features: weights, pooling, precision, normalisation and size of the patches."""
        settings = ("patch_px", "mean", "std", "pooling", "precision", "diameters_um")
        facts = {name: getattr(self, name) for name in settings}
        return digest(facts | {"kind": type(self).__name__, "weights": self._weights()})

    def fit(self, sample: NDArray[np.uint8], *, um_per_px: float) -> Self:
        """Load the weights; nothing is learnt from the sample.

        Raises
        ------
        InputError
            If the weights or the device cannot be used, or `pooling` needs a class token that the model lacks.
        """
        finest = min(self.diameters_um) / self.patch_px
        if um_per_px > COARSE * finest:
            logger.warning(
                "The image has %.3g µm per pixel, the patches of %s have %.3g: they show little detail. Give an "
                "image of higher resolution, or a larger um_per_px of the encoder.",
                um_per_px,
                self.name,
                finest,
            )
        with self._lock:
            self._ensure_loaded()
        return self

    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches, shape (B, S, patch_px, patch_px, 3), as features, shape (B, F)."""
        if patches.shape[2:] != (self.patch_px, self.patch_px, 3):
            raise ValueError(f"Expected patches of {self.patch_px} × {self.patch_px} × 3, found {patches.shape[2:]}.")
        flat = patches.reshape(-1, *patches.shape[2:])  # (B * S, p, p, 3)
        with self._lock:
            self._ensure_loaded()
            rows = [self._encode(flat[i : i + self.batch_size]) for i in range(0, len(flat), self.batch_size)]
        return np.concatenate(rows).reshape(len(patches), -1)

    def __getstate__(self) -> dict[str, object]:
        """Leave out the network when the encoder is sent to another process, which loads it again."""
        return {name: value for name, value in vars(self).items() if name not in ("_network", "_lock")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._reset()

    @abstractmethod
    def _find(self) -> Preprocessing:
        """Find the model and read which patches it expects."""

    @abstractmethod
    def _load(self) -> Any:
        """Make the network with its weights; an object with ``to(device)``."""

    @abstractmethod
    def _tokens(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Get the "mean" of patch tokens and, if any, the class token "cls", (B, D) each, of pixels (B, 3, p, p)."""

    @abstractmethod
    def _weights(self) -> str:
        """Compute a string that differs between weights."""

    def _reset(self) -> None:
        """Start without a network."""
        self._network: Any = None
        self._lock = threading.Lock()
        self._parts: list[str] = []
        self._width = 0

    def _diameters(self) -> tuple[float, ...]:
        """Get the option `diameter_um` as a tuple."""
        if self.diameter_um is None:
            return ()
        return tuple(self.diameter_um) if isinstance(self.diameter_um, (tuple, list)) else (float(self.diameter_um),)

    def _ensure_loaded(self) -> None:
        """Load the network, once, and see what it returns for an empty patch."""
        import torch

        if self._network is not None:
            return
        self._device = pick_device(self.device)
        network = self._load()
        self._network = network.to(self._device)
        if isinstance(network, torch.nn.Module):
            network.float().eval()
        try:
            tokens = self._run(np.zeros((1, self.patch_px, self.patch_px, 3), dtype=np.uint8))
            if "cls" not in tokens and self.pooling not in (None, "mean"):
                raise InputError(
                    f"Expected a model with a class token, which pooling={self.pooling!r} needs, found that "
                    f"{self.name} has none. Give pooling='mean'."
                )
        except BaseException:
            self._network = None  # a second call must not take it for loaded
            raise
        default = "cls" if "cls" in tokens else "mean"
        self._parts, self._width = (self.pooling or default).split("+"), tokens["mean"].shape[1]

    def _encode(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches, shape (n, p, p, 3), that fit on the device together."""
        import torch

        tokens = self._run(patches)
        features = torch.cat([tokens[part] for part in self._parts], dim=1)
        return np.asarray(features.float().cpu().numpy(), dtype=np.float32)

    def _run(self, patches: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        """Run the network on patches; if the memory is full, explain what to do."""
        import torch

        half = torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
        try:
            with torch.inference_mode(), half:
                return self._tokens(self._pixels(patches))
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if "out of memory" in str(error) or "can't allocate" in str(error):
                raise InputError(
                    f"Expected memory for {len(patches)} patches of {self.name} at a time on {self._device}, found too "
                    "little. Give the encoder a smaller batch_size, precision='bf16' or device='cpu'."
                ) from error
            raise

    def _pixels(self, patches: NDArray[np.uint8]) -> torch.Tensor:
        """Put patches, shape (n, p, p, 3), on the device, normalised, shape (n, 3, p, p)."""
        import torch

        pixels = torch.from_numpy(np.array(patches)).to(self._device).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return pixels.div_(255).sub_(mean).div_(std)


def pooled_tokens(hidden: torch.Tensor, prefix: int, *, has_class: bool = True) -> dict[str, torch.Tensor]:
    """Pool tokens, (B, n, D): the mean of those of the patch, and the class token, the first of the `prefix` others."""
    mean = {"mean": hidden[:, prefix:].mean(dim=1)}
    return mean | {"cls": hidden[:, 0]} if prefix and has_class else mean


def pick_device(name: str) -> torch.device:
    """Get a device by its name, "auto" for the first GPU or else the CPU; raise InputError if there is none."""
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, available in usable.items() if available))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"Expected device to be auto, cpu, cuda, cuda:1, … or mps, found {name!r}.") from error
    missing = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if missing or not usable.get(device.type, False):
        raise InputError(f"Expected a device that this machine has, found {name!r}. Give device='auto' or 'cpu'.")
    return device
