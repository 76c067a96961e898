"""Models of `timm`, from the hub or a folder."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stmmr._core.checks import InputError, require_extra
from stmmr.encoders._hub import CONFIG, find_model
from stmmr.encoders._torch import Preprocessing, TorchEncoder, pooled_tokens

if TYPE_CHECKING:
    from pathlib import Path

    import torch

CLASSES = ("timm.layers.", "torch.nn.")
"""A value of `model_kwargs` that starts with one of these is the name of a class."""


@dataclass(kw_only=True)
class TimmEncoder(TorchEncoder):
    """Any model of timm: a name of timm, a name on the hub, or a folder with ``config.json`` and weights.

    Size and normalisation of the patches are those of the model's ``config.json``. The mean leaves out registers.

    Examples
    --------
    >>> encoder = TimmEncoder("resnet50.a1_in1k")  # doctest: +SKIP
    >>> stmmr.pp.histology(adata, image="he.tif", encoder=encoder)  # doctest: +SKIP
    """

    model_kwargs: dict[str, Any] = field(default_factory=dict)
    """For ``timm.create_model``, as on the model's page; a class by its name, such as
    ``"timm.layers.SwiGLUPacked"``."""

    def _find(self) -> Preprocessing:
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
        data = timm_data.resolve_data_config(pretrained_cfg=config.get("pretrained_cfg", config))
        return Preprocessing(patch_px=data["input_size"][-1], mean=tuple(data["mean"]), std=tuple(data["std"]))

    def _address(self) -> str | Path:
        """Get the name or folder for `find_model`: timm's own models are on the hub as ``timm/NAME``."""
        if not isinstance(self.model, str):
            return self.model
        model = self.model.removeprefix("hf-hub:").removeprefix("hf_hub:").removeprefix("local-dir:")
        return model if "/" in model or "\\" in model or model != self.model else f"timm/{model}"

    def _weights(self) -> str:
        return self._files.fingerprint() + json.dumps(self.model_kwargs, sort_keys=True, default=str)

    def _load(self) -> torch.nn.Module:
        timm = require_extra("timm", extra="timm")
        options = {name: _class(value) for name, value in self.model_kwargs.items()}
        address = f"local-dir:{self._files.with_weights()}"
        try:
            network: torch.nn.Module = timm.create_model(address, pretrained=True, num_classes=0, **options)
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            reason = self._files.unloadable(error, by="timm")
            raise InputError(f"{reason} The model's page tells which model_kwargs it needs.") from error
        return network

    def _tokens(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self._network.forward_features(pixels)
        if hidden.ndim != 3:  # feature map of a CNN
            return {"mean": self._network.forward_head(hidden)}
        prefix = getattr(self._network, "num_prefix_tokens", 0)
        return pooled_tokens(hidden, prefix, has_class=getattr(self._network, "has_class_token", True))


def _class(value: object) -> object:
    """Import a class by its name; anything else is returned unchanged."""
    if not (isinstance(value, str) and value.startswith(CLASSES)):
        return value
    module, _, name = value.rpartition(".")
    return getattr(importlib.import_module(module), name)
