"""Vision transformers and CNNs of Hugging Face `transformers`, from the hub or a folder."""

from __future__ import annotations

import inspect
import json
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stmmr._core.checks import InputError, logger, require_extra
from stmmr.encoders._hub import CONFIG, HUB, find_model
from stmmr.encoders._torch import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, TorchEncoder, pooled_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch


@dataclass(kw_only=True)
class TransformersEncoder(TorchEncoder):
    """Any vision transformer or CNN that ``transformers.AutoModel`` loads.

    Size and normalisation of the patches are those of the model's ``preprocessor_config.json``. The mean leaves out
    registers (Darcet et al. 2024).

    Examples
    --------
    >>> encoder = TransformersEncoder("owkin/phikon")  # doctest: +SKIP
    >>> stmmr.pp.histology(adata, image="he.tif", encoder=encoder)  # doctest: +SKIP
    """

    trust_remote_code: bool = False
    """Whether Python code that comes with the model may run on this machine."""

    def _find(self) -> Preprocessing:
        """Find the model and read its configuration."""
        require_extra("transformers", extra="vit")
        self._files = find_model(self.model, with_code=self.trust_remote_code)
        self.name = self.name or self._files.name
        self._config = self._read_config()
        settings = self._preprocessing()
        # transformers normalises values from 0 to 255 times this factor, TorchEncoder values from 0 to 1
        factor = 255 * (settings.get("rescale_factor") or 1 / 255) if settings.get("do_rescale", True) else 255.0
        plain = not settings.get("do_normalize", True)
        mean, std = ((0.0,) * 3, (1.0,) * 3) if plain else (settings["image_mean"], settings["image_std"])
        return Preprocessing(
            patch_px=self._side(settings), mean=tuple(m / factor for m in mean), std=tuple(s / factor for s in std)
        )

    def _weights(self) -> str:
        return self._files.fingerprint()

    def _load(self) -> torch.nn.Module:
        """Load the network and check that no weight is missing."""
        from safetensors import SafetensorError
        from transformers import AutoModel

        folder = self._files.with_weights()
        try:
            with quiet_transformers():
                network, report = AutoModel.from_pretrained(
                    folder,
                    config=self._config,
                    trust_remote_code=self.trust_remote_code,
                    output_loading_info=True,
                    local_files_only=True,
                )
        except ImportError as error:
            raise self._lacking(error) from error
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise self._files.unloadable(error, by="transformers") from error
        # the features depend on neither: the pooler is not used, and nothing is masked
        missing = sorted(k for k in report["missing_keys"] if "pooler" not in k and "mask_token" not in k)
        if missing:
            raise InputError(
                f"Expected every weight of {self.name} in {folder}, found {len(missing)} missing (first: "
                f"{missing[0]}). Are these the weights of this {CONFIG}?"
            )
        return network  # type: ignore[no-any-return]

    def _tokens(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        options = {}
        if getattr(self._config, "image_size", self.patch_px) not in (self.patch_px, [self.patch_px] * 2):
            takes = inspect.signature(self._network.forward).parameters
            options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        output = self._network(pixel_values=pixels, **options)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:  # feature map of a CNN, (B, D, h, w)
            pooled = getattr(output, "pooler_output", None)
            return {"mean": hidden.mean(dim=(2, 3)) if pooled is None else pooled.flatten(1)}
        return pooled_tokens(hidden, self._prefix(hidden.shape[1]))

    def _prefix(self, n_tokens: int) -> int:
        """Count the tokens before those of the patch: class token and registers."""
        cell = getattr(self._config, "patch_size", None)
        cell = cell[0] if isinstance(cell, (list, tuple)) else cell
        if not isinstance(cell, int):
            return 0
        # a model that merges windows (Swin) has fewer tokens than cells, and no class token
        return max(0, n_tokens - (self.patch_px // cell) ** 2)

    def _read_config(self) -> Any:
        """Read the configuration, and refuse models that do not read images."""
        from transformers import MODEL_MAPPING, AutoConfig

        raw = json.loads((self._files.folder / CONFIG).read_text(encoding="utf-8"))
        try:
            with quiet_transformers():
                config = AutoConfig.from_pretrained(self._files.folder, trust_remote_code=self.trust_remote_code)
        except ImportError as error:
            raise self._lacking(error) from error
        except (OSError, ValueError, KeyError) as error:
            raise InputError(self._unknown_config(raw)) from error
        network: Any = MODEL_MAPPING.get(type(config), None)
        if network is None and not self.trust_remote_code:
            raise InputError(self._unknown_config(raw))
        network = network[0] if isinstance(network, tuple) else network
        if hasattr(config, "vision_config") or (network is not None and network.main_input_name != "pixel_values"):
            raise InputError(
                f"Expected a model of images, found that {self.name} is of the type {config.model_type!r}, which "
                "reads something else or more. Give a vision transformer or a CNN; stmmr.pp.encoders() lists some."
            )
        return config

    def _unknown_config(self, raw: Mapping[str, object]) -> str:
        """Explain why transformers cannot use a configuration."""
        if "auto_map" in raw and not self.trust_remote_code:
            return (
                f"Expected a model whose code is part of transformers, found that {self.name} brings its own. Read it "
                f"({HUB}/{self.name} or its folder), and give trust_remote_code=True if you trust it."
            )
        if "architecture" in raw:
            return f"Expected a model of transformers, found that {self.name} is one of timm. Use TimmEncoder."
        return (
            f"Expected a model that transformers knows, found the type {raw.get('model_type')!r} in {CONFIG} of "
            f"{self.name}. A newer transformers may know it."
        )

    def _preprocessing(self) -> dict[str, Any]:
        """Read how the model normalises images; if it does not tell, take the values of ImageNet."""
        from transformers.image_processing_base import ImageProcessingMixin

        try:
            with quiet_transformers():
                settings, _ = ImageProcessingMixin.get_image_processor_dict(self._files.folder, local_files_only=True)
        except OSError:
            settings = {}
        if "image_mean" not in settings and settings.get("do_normalize", True):
            logger.info("%s does not state how it normalises images; that of ImageNet is taken.", self.name)
            settings = settings | {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
        return dict(settings)

    def _side(self, settings: Mapping[str, Any]) -> int:
        """Read the pixels of a side, after resizing and cropping."""
        crop = settings.get("crop_size") if settings.get("do_center_crop", "crop_size" in settings) else None
        for size in (crop, settings.get("size"), getattr(self._config, "image_size", None)):
            if isinstance(size, dict):
                size = size.get("height") or size.get("shortest_edge")
            if isinstance(size, (list, tuple)):
                size = size[0]
            if size:
                return int(size)
        return 224

    def _lacking(self, error: ImportError) -> InputError:
        """Make the error about a model whose code needs other packages than those installed."""
        return InputError(
            f"Expected the code of {self.name} to run here, found that it does not: {error} The model's page tells "
            "which packages and versions it needs."
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from printing progress bars and reports."""
    from transformers.utils import logging

    switches: Any = logging
    level, bars = switches.get_verbosity(), switches.is_progress_bar_enabled()
    switches.set_verbosity_error()
    switches.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        switches.set_verbosity(level)
        if bars:
            switches.enable_progress_bar()
