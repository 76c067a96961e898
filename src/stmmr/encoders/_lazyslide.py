"""Models of LazySlide's zoo, where it is installed."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.checks import InputError, require_key
from stmmr.encoders._hub import refusal
from stmmr.encoders._torch import Look, TorchEncoder

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

ZOOS: Final = ("lazyslide_models", "lazyslide.models")
"""Where the zoo is: a package of its own, or in LazySlide before that."""


@dataclass(kw_only=True)
class LazySlideEncoder(TorchEncoder):
    """A model of LazySlide's zoo (``lazyslide_models.MODEL_REGISTRY``) that encodes pictures, by its key there.

    LazySlide says how its pictures are resized, normalised and pooled: `mean`, `std` and `pooling` have no effect.

    Examples
    --------
    >>> encoder = LazySlideEncoder("conch")  # doctest: +SKIP
    """

    def _find(self) -> Look:
        """Find the model in the zoo."""
        registry = _zoo().MODEL_REGISTRY
        require_key(registry, str(self.model), where="LazySlide's zoo")
        self._kind = registry[str(self.model)]
        if not hasattr(self._kind, "encode_image"):
            raise InputError(f"Expected a model of LazySlide that encodes pictures, found that {self.model} does not.")
        self.name = self.name or f"lazyslide:{self.model}"
        self.pooling = None
        return Look(patch_px=224, mean=(0.0,) * 3, std=(1.0,) * 3)

    def _load(self) -> Any:
        """Make the model, which downloads its weights where they are not there yet."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = self._kind()
            except ImportError as error:
                raise InputError(f"Expected what {self.name} needs to be installed, found: {error}") from error
            except Exception as error:
                # its models raise what their own libraries do, with the hub's error somewhere behind it
                if reason := refusal(error, str(self.model)):
                    raise InputError(reason) from error
                raise
        self._look = model.get_transform()
        if hasattr(model.model, "eval"):
            model.model.eval()
        return model

    def _pixels(self, patches: NDArray[np.uint8]) -> torch.Tensor:
        """Prepare patches, shape (n, p, p, 3), as LazySlide says; without a say, the model does it itself."""
        import torch

        if self._look is None:
            return torch.from_numpy(np.array(patches)).permute(0, 3, 1, 2)
        return torch.stack([self._look(patch) for patch in patches]).to(self._device)

    def _tokens(self, pixels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Get the features of the pictures, under the name of a mean."""
        import torch

        found = torch.as_tensor(self._network.encode_image(pixels))
        return None, found.reshape(len(pixels), -1)

    def _weights(self) -> str:
        """Hash the weights, as LazySlide does not say where they are from."""
        with self._lock:
            self._loaded()
        found = hashlib.sha256(str(self.model).encode())
        for name, values in sorted(self._network.model.state_dict().items()):
            found.update(name.encode() + values.detach().cpu().float().numpy().tobytes())
        return found.hexdigest()


def _zoo() -> Any:
    """Import the zoo."""
    for module in ZOOS:
        try:
            return importlib.import_module(module)
        except ImportError as error:
            problem = error
    raise ImportError("LazySlide is not installed; run: pip install 'stmmr-kit[lazyslide]'") from problem
