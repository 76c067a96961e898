"""Models of `timm`, from the hub or a folder."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stmmr._core.checks import InputError, require_extra
from stmmr.encoders._hub import CONFIG, find_model
from stmmr.encoders._torch import Look, TorchEncoder

if TYPE_CHECKING:
    import torch

CLASSES = ("timm.layers.", "torch.nn.")
"""What a value of `model_kwargs` starts with that stands for a class."""


@dataclass(kw_only=True)
class TimmEncoder(TorchEncoder):
    """Any model of timm: a name of timm, a name on the hub, or a folder with ``config.json`` and weights.

    Size and normalisation of the patches are those of the model's ``config.json``. Registers are no part of the
    mean.

    Examples
    --------
    >>> encoder = TimmEncoder("resnet50.a1_in1k")  # doctest: +SKIP
    >>> stmmr.pp.histology(adata, image="he.tif", encoder=encoder)  # doctest: +SKIP
    """

    model_kwargs: dict[str, Any] = field(default_factory=dict)
    """For ``timm.create_model``, as the model's page says; a class by its name, such as
    ``"timm.layers.SwiGLUPacked"``."""

    def _find(self) -> Look:
        """Find the model and read its configuration."""
        timm_data = require_extra("timm.data", extra="timm")
        self._files = find_model(self._address())
        self.name = self.name or self._files.name
        config = json.loads((self._files.folder / CONFIG).read_text(encoding="utf-8"))
        if "architecture" not in config:
            raise InputError(
                f"Expected a model of timm, found no 'architecture' in {CONFIG} of {self.name}. Use "
                "TransformersEncoder if it is one of transformers."
            )
        own = timm_data.resolve_data_config(pretrained_cfg=config.get("pretrained_cfg", config))
        return Look(patch_px=own["input_size"][-1], mean=tuple(own["mean"]), std=tuple(own["std"]))

    def _address(self) -> Any:
        """Get what `find_model` knows the model by: timm's own lie on the hub under its name."""
        if not isinstance(self.model, str):
            return self.model
        model = self.model.removeprefix("hf-hub:").removeprefix("hf_hub:").removeprefix("local-dir:")
        return model if "/" in model or "\\" in model or model != self.model else f"timm/{model}"

    def _weights(self) -> str:
        """Tell the weights apart from every other ones."""
        return self._files.fingerprint() + json.dumps(self.model_kwargs, sort_keys=True, default=str)

    def _load(self) -> torch.nn.Module:
        """Load the network."""
        timm = require_extra("timm", extra="timm")
        options = {name: _class(value) for name, value in self.model_kwargs.items()}
        try:
            network = timm.create_model(
                f"local-dir:{self._files.with_weights()}", pretrained=True, num_classes=0, **options
            )
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"Expected the weights of a model in {self._files.folder}, found that timm cannot load them: {reason} "
                "The model's page says which model_kwargs it needs."
            ) from error
        return network  # type: ignore[no-any-return]

    def _tokens(self, pixels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Get the token of the class, if any, and the mean of the others."""
        hidden = self._network.forward_features(pixels)
        if hidden.ndim != 3:  # a map of a CNN
            return None, self._network.forward_head(hidden)
        before = getattr(self._network, "num_prefix_tokens", 0)
        has_class = before and getattr(self._network, "has_class_token", True)
        return (hidden[:, 0] if has_class else None), hidden[:, before:].mean(dim=1)


def _class(value: Any) -> Any:
    """Get the class that a name stands for; anything else stays as it is."""
    if not (isinstance(value, str) and value.startswith(CLASSES)):
        return value
    module, _, name = value.rpartition(".")
    return getattr(importlib.import_module(module), name)
