"""With timm where it can be imported; otherwise with a stand-in for the three names of it that are used."""

import importlib
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from stmmr import InputError
from stmmr.encoders import TimmEncoder, encoder_of

torch = pytest.importorskip("torch")


class Tokens(torch.nn.Module):
    """A class token and two registers before 4 cells, the mean of channels in each, times 1 to 5."""

    num_prefix_tokens = 3

    def forward_features(self, pixels):
        cells = torch.nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), 8).flatten(2).transpose(1, 2)  # (B, 4, 1)
        first = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1).expand(len(pixels), -1, -1)
        return torch.cat([first, cells], dim=1) * torch.arange(1.0, 6.0)


class Map(torch.nn.Module):
    def forward_features(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels, 8)

    def forward_head(self, found):
        return found.mean((2, 3))


@pytest.fixture
def folder(tmp_path):
    own = {"input_size": [3, 16, 16], "mean": [0.7, 0.6, 0.5], "std": [0.2, 0.3, 0.4]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "tokens", "pretrained_cfg": own}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """Stand-in for timm; what `create_model` was asked for."""
    asked = SimpleNamespace(network=Tokens(), name=None, options=None)

    def create_model(name, **options):
        if "img_size" in options:
            raise RuntimeError("Error(s) in loading state_dict:\nsize mismatch")
        asked.name, asked.options = name, options
        return asked.network

    timm, data, layers = ModuleType("timm"), ModuleType("timm.data"), ModuleType("timm.layers")
    timm.create_model, timm.data, timm.layers, timm.__path__ = create_model, data, layers, []
    data.resolve_data_config = lambda pretrained_cfg: {"mean": (0.5,) * 3, "std": (0.5,) * 3} | pretrained_cfg
    layers.SwiGLUPacked = type("SwiGLUPacked", (), {})
    for module in (timm, data, layers):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


def fitted(folder, **options):
    encoder = TimmEncoder(folder, **options)
    return encoder.fit(np.zeros((1, 1, encoder.patch_px, encoder.patch_px, 3), dtype=np.uint8), um_per_px=0.5)


def test_tokens(folder, asked, patches):
    some = patches(16)
    brightness = ((some[:, 0] / 255 - [0.7, 0.6, 0.5]) / [0.2, 0.3, 0.4]).mean((1, 2, 3))
    cls, mean = np.tile(10 * np.arange(1, 6), (7, 1)), brightness[:, None] * np.arange(1, 6)
    assert fitted(folder).diameters_um == (8.0,)
    np.testing.assert_allclose(fitted(folder)(some), cls, rtol=1e-5)
    np.testing.assert_allclose(fitted(folder, pooling="mean")(some), mean, rtol=1e-4)
    np.testing.assert_allclose(fitted(folder, pooling="cls+mean")(some), np.hstack([cls, mean]), rtol=1e-4)
    assert asked.name == f"local-dir:{folder}"
    assert asked.options == {"pretrained": True, "num_classes": 0}


def test_registers_without_a_class_and_maps(folder, asked, patches):
    asked.network.has_class_token = False
    assert fitted(folder).feature_names[0] == "mean_0_8um"
    asked.network = Map()
    pixels = (patches(16)[:, 0] / 255 - [0.7, 0.6, 0.5]) / [0.2, 0.3, 0.4]
    np.testing.assert_allclose(fitted(folder)(patches(16)), pixels.mean((1, 2)), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="with a class token"):
        fitted(folder, pooling="cls")


def test_known_models_are_made_as_their_pages_say(folder, asked):
    encoder = encoder_of("virchow2", folder=folder, device="cpu")
    assert (encoder.name, encoder.pooling) == ("virchow2", "cls+mean")
    encoder.fit(np.zeros((1, 1, 16, 16, 3), dtype=np.uint8), um_per_px=0.5)
    assert asked.options["mlp_layer"] is sys.modules["timm.layers"].SwiGLUPacked
    assert asked.options["act_layer"] is torch.nn.SiLU
    assert encoder_of("h-optimus-0", folder=folder).mean[0] == pytest.approx(0.707223)
    assert encoder_of("uni", folder=folder).fingerprint != encoder_of("virchow", folder=folder).fingerprint


def test_folder_tells_that_it_is_of_timm(folder, asked):
    assert isinstance(encoder_of(folder), TimmEncoder)
    assert isinstance(encoder_of("timm:resnet50.a1_in1k", folder=folder), TimmEncoder)
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(InputError, match=r"model of timm, found no 'architecture'.*TransformersEncoder"):
        TimmEncoder(folder)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("hf-hub:MahmoodLab/UNI", "MahmoodLab/UNI"),
        ("MahmoodLab/UNI", "MahmoodLab/UNI"),
    ],
)
def test_names_on_the_hub(asked, monkeypatch, name, address):
    found = []
    monkeypatch.setattr("stmmr.encoders._timm.find_model", lambda model: found.append(model) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        TimmEncoder(name)
    assert found == [address]


def test_weights_that_timm_cannot_load(folder, asked):
    with pytest.raises(InputError, match=r"timm cannot load them: Error\(s\).*model_kwargs"):
        fitted(folder, model_kwargs={"img_size": 224})


def test_missing_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(ImportError, match=r"pip install 'stmmr-kit\[timm\]'"):
        TimmEncoder(folder)


def test_tiny_model_of_timm(tmp_path, patches):
    """The real path, from a folder that timm wrote."""
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        pytest.skip(f"timm cannot be imported: {error}")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, **sizes).eval()
    timm.models.save_for_hf(network, tmp_path, model_args=sizes)
    encoder = fitted(tmp_path)
    assert encoder.patch_px == 32
    pixels = (patches(32)[:, 0] / 255 - np.array(encoder.mean)) / np.array(encoder.std)
    with torch.inference_mode():
        expected = network(torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32))
    np.testing.assert_allclose(encoder(patches(32)), expected, rtol=1e-4, atol=1e-5)
