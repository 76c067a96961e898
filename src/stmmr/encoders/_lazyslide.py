"""Models of LazySlide's zoo, if LazySlide is installed."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.checks import InputError, require_key
from stmmr.encoders._hub import explain_cause
from stmmr.encoders._torch import Preprocessing, TorchEncoder

if TYPE_CHECKING:
    from types import ModuleType

    import torch
    from numpy.typing import NDArray

ZOOS: Final = ("lazyslide_models", "lazyslide.models")
"""Modules of the zoo: a package of its own, or a part of older versions of LazySlide."""


@dataclass(kw_only=True)
class LazySlideEncoder(TorchEncoder):
    """A model of LazySlide's zoo (``lazyslide_models.MODEL_REGISTRY``) that encodes images, by its key there.

    LazySlide resizes, normalises and pools: `mean`, `std` and `pooling` have no effect.

    Examples
    --------
    >>> encoder = LazySlideEncoder("conch")  # doctest: +SKIP
    """

    def _find(self) -> Preprocessing:
        """Find the model in the zoo."""
        registry = _zoo().MODEL_REGISTRY
        require_key(registry, str(self.model), where="LazySlide's zoo")
        self._class = registry[str(self.model)]
        if not hasattr(self._class, "encode_image"):
            raise InputError(f"Expected a model of LazySlide that encodes images, found that {self.model} does not.")
        self.name = self.name or f"lazyslide:{self.model}"
        self.pooling = None
        return Preprocessing(patch_px=224, mean=(0.0,) * 3, std=(1.0,) * 3)

    def _load(self) -> Any:
        """Make the model, which downloads its weights if they are missing."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = self._class()
            except ImportError as error:
                raise InputError(f"Expected the packages of {self.name} to be installed, found: {error}") from error
            except Exception as error:
                # models raise the errors of their own libraries, with the hub's error as the cause
                if reason := explain_cause(error, str(self.model)):
                    raise InputError(reason) from error
                raise
        self._transform = model.get_transform()
        if hasattr(model.model, "eval"):
            model.model.eval()
        return model

    def _pixels(self, patches: NDArray[np.uint8]) -> torch.Tensor:
        """Prepare patches, shape (n, p, p, 3), by LazySlide's transform; without one, the model prepares them."""
        import torch

        if self._transform is None:
            return torch.from_numpy(np.array(patches)).permute(0, 3, 1, 2)
        return torch.stack([self._transform(patch) for patch in patches]).to(self._device)

    def _tokens(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Get the features of the images, under the name of a mean."""
        import torch

        return {"mean": torch.as_tensor(self._network.encode_image(pixels)).reshape(len(pixels), -1)}

    def _weights(self) -> str:
        """Hash the weights, as LazySlide does not tell their version."""
        with self._lock:
            self._ensure_loaded()
        hashed = hashlib.sha256(str(self.model).encode())
        for name, values in sorted(self._network.model.state_dict().items()):
            hashed.update(name.encode() + values.detach().cpu().float().numpy().tobytes())
        return hashed.hexdigest()


def _zoo() -> ModuleType:
    """Import the zoo."""
    for module in ZOOS:
        try:
            return importlib.import_module(module)
        except ImportError as error:
            problem = error
    raise ImportError("LazySlide is not installed; run: pip install 'stmmr-kit[lazyslide]'") from problem
