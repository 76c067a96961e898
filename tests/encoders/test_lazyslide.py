"""With a stand-in for the zoo of LazySlide, made after the protocol of its models."""

import sys
from types import ModuleType

import numpy as np
import pytest

from stmmr import InputError
from stmmr.encoders import LazySlideEncoder, encoder_of

torch = pytest.importorskip("torch")


class Zoo:
    name = "Mean"

    def __init__(self):
        self.model = torch.nn.Linear(3, 2, bias=False)
        torch.nn.init.constant_(self.model.weight, 0.5)

    def to(self, device):
        self.model.to(device)
        return self

    def get_transform(self):
        return lambda patch: torch.as_tensor(patch).permute(2, 0, 1).float() / 255

    @torch.inference_mode()
    def encode_image(self, pixels):
        return self.model(pixels.mean((2, 3)))


class OwnWay(Zoo):
    """The way of Phikon: the model prepares its images itself."""

    def get_transform(self):
        return None

    def encode_image(self, pixels):
        assert pixels.dtype == torch.uint8
        return super().encode_image(pixels.float() / 255).numpy()


class Away(Zoo):
    def __init__(self):
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            raise LocalEntryNotFoundError("no way to the hub")
        except LocalEntryNotFoundError as error:
            raise OSError("could not load") from error


class Lacking(Zoo):
    def __init__(self):
        raise ImportError("conch is not installed")


class Segmenter:
    def segment(self, pixels):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def zoo(monkeypatch):
    module = ModuleType("lazyslide_models")
    module.MODEL_REGISTRY = {
        "uni": Zoo,
        "phikon": OwnWay,
        "away": Away,
        "conch": Lacking,
        "cellpose": Segmenter,
    }
    monkeypatch.setitem(sys.modules, "lazyslide_models", module)


@pytest.mark.parametrize("name", ["uni", "phikon"])
def test_model_of_the_zoo(name, patches):
    encoder = encoder_of(f"lazyslide:{name}", patch_px=32, um_per_px=0.25)
    assert isinstance(encoder, LazySlideEncoder)
    assert (encoder.name, encoder.diameters_um) == (f"lazyslide:{name}", (8.0,))
    encoder.fit(patches(32), um_per_px=0.25)
    expected = 0.5 * patches(32)[:, 0].mean((1, 2)).sum(axis=1, keepdims=True) / 255
    np.testing.assert_allclose(encoder(patches(32)), np.tile(expected, 2), rtol=1e-5)
    assert encoder.feature_names == ["mean_0_8um", "mean_1_8um"]
    assert len(encoder.fingerprint) == 64
    assert encoder.fingerprint == LazySlideEncoder(name, patch_px=32, um_per_px=0.25).fingerprint


def test_errors(patches):
    with pytest.raises(InputError, match="Did you mean 'uni'"):
        LazySlideEncoder("unii")
    with pytest.raises(InputError, match="encodes images, found that cellpose does not"):
        LazySlideEncoder("cellpose")
    with pytest.raises(InputError, match=r"no connection.*another machine"):
        LazySlideEncoder("away").fit(patches(224, n=1), um_per_px=0.5)
    with pytest.raises(InputError, match="to be installed, found: conch is not installed"):
        LazySlideEncoder("conch").fit(patches(224, n=1), um_per_px=0.5)


def test_without_lazyslide(monkeypatch):
    for module in ("lazyslide_models", "lazyslide", "lazyslide.models"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'stmmr-kit\[lazyslide\]'"):
        LazySlideEncoder("uni")
