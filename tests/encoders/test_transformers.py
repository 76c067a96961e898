import json
import logging
import pickle
import shutil

import numpy as np
import pytest

from stmmr import InputError
from stmmr.encoders import TransformersEncoder, encoder_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

MEAN, STD = [0.7, 0.6, 0.5], [0.2, 0.3, 0.4]


def fitted(folder, **options):
    encoder = TransformersEncoder(folder, **options)
    return encoder.fit(np.zeros((1, 1, encoder.patch_px, encoder.patch_px, 3), dtype=np.uint8), um_per_px=0.5)


def direct(folder, patches):
    """What transformers itself returns for patches normalised by hand, in double precision."""
    pixels = (patches[:, 0] / 255 - MEAN) / STD
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return network(pixel_values=torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32))


def close(found, expected):
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "px", "before"), [("vit", 32, 1), ("dino", 42, 5)])
def test_tokens_of_a_vision_transformer(models, patches, name, px, before):
    some = patches(px)
    hidden = direct(models / name, some).last_hidden_state
    cls, mean = hidden[:, 0], hidden[:, before:].mean(1)
    close(fitted(models / name)(some), cls)
    close(fitted(models / name, pooling="cls")(some), cls)
    close(fitted(models / name, pooling="mean")(some), mean)
    both = fitted(models / name, pooling="cls+mean")
    close(both(some), torch.cat([cls, mean], dim=1))
    assert both.feature_names[0] == f"cls_0_{px / 2:g}um"
    assert both.feature_names[16] == f"mean_0_{px / 2:g}um"
    assert len(both.feature_names) == 32


def test_registers_are_no_part_of_the_mean(models, patches):
    hidden = direct(models / "dino", patches(42)).last_hidden_state
    assert hidden.shape[1] == 1 + 4 + 9
    with_registers = np.asarray(hidden[:, 1:].mean(1))
    assert np.abs(fitted(models / "dino", pooling="mean")(patches(42)) - with_registers).max() > 1e-2


@pytest.mark.parametrize("name", ["resnet", "convnext"])
def test_cnn_has_its_pooled_map(models, patches, name):
    found = direct(models / name, patches(32))
    encoder = fitted(models / name)
    assert encoder.patch_px == 32
    close(encoder(patches(32)), found.pooler_output.flatten(1))
    if name == "resnet":
        close(encoder(patches(32)), found.last_hidden_state.mean((2, 3)))
    assert encoder.feature_names[0] == "mean_0_16um"


def test_windowed_transformer_has_the_mean_of_all_tokens(models, patches):
    hidden = direct(models / "swin", patches(32)).last_hidden_state
    close(fitted(models / "swin")(patches(32)), hidden.mean(1))


@pytest.mark.parametrize("name", ["resnet", "convnext", "swin"])
@pytest.mark.parametrize("pooling", ["cls", "cls+mean"])
def test_model_without_a_token_of_the_class_says_so(models, name, pooling):
    with pytest.raises(InputError, match=rf"pooling='{pooling.replace('+', '.')}'.*{name} has none.*pooling='mean'"):
        fitted(models / name, pooling=pooling)


def test_other_sizes_interpolate_the_positions(models, patches):
    encoder = fitted(models / "vit", patch_px=48)
    assert encoder.diameters_um == (24.0,)
    pixels = torch.tensor((patches(48)[:, 0] / 255 - MEAN) / STD, dtype=torch.float32).permute(0, 3, 1, 2)
    network = transformers.AutoModel.from_pretrained(models / "vit").eval()
    with torch.inference_mode():
        expected = network(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    close(encoder(patches(48)), expected)


def test_normalisation_by_hand(models):
    encoder = fitted(models / "vit")
    patch = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    patch[0, 3, 5] = [255, 51, 0]
    pixels = encoder._pixels(patch).numpy()
    np.testing.assert_allclose(pixels[0, :, 3, 5], [(1 - 0.7) / 0.2, (0.2 - 0.6) / 0.3, -0.5 / 0.4], rtol=1e-5)
    np.testing.assert_allclose(pixels[0, :, 0, 0], [-0.7 / 0.2, -0.6 / 0.3, -0.5 / 0.4], rtol=1e-5)


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        ({"do_normalize": False}, 0.2),
        ({"rescale_factor": 1 / 127.5}, (0.4 - 0.7) / 0.2),
        ({"do_rescale": False, "image_mean": [100] * 3, "image_std": [10] * 3}, (51 - 100) / 10),
    ],
)
def test_every_way_to_normalise(models, tmp_path, look, expected):
    folder = shutil.copytree(models / "vit", tmp_path / "vit")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | look))
    pixels = fitted(folder)._pixels(np.full((1, 32, 32, 3), 51, dtype=np.uint8))
    assert float(pixels[0, 0, 0, 0]) == pytest.approx(expected, rel=1e-4)


def test_without_a_say_the_normalisation_is_that_of_imagenet(models, tmp_path, caplog):
    folder = shutil.copytree(models / "vit", tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with caplog.at_level(logging.INFO, logger="stmmr"):
        encoder = TransformersEncoder(folder)
    assert "that of ImageNet is taken" in caplog.text
    assert encoder.mean == (0.485, 0.456, 0.406)
    assert encoder.patch_px == 32  # of the configuration
    assert TransformersEncoder(folder, mean=(0.5,) * 3, std=(0.25,) * 3).mean == (0.5,) * 3


def test_features_do_not_depend_on_the_batch(models, patches):
    whole = fitted(models / "vit")(patches(32, n=9))
    for batch_size in (1, 2, 9):
        close(fitted(models / "vit", batch_size=batch_size)(patches(32, n=9)), whole)
    one_by_one = np.concatenate([fitted(models / "vit")(patch[None]) for patch in patches(32, n=9)])
    close(one_by_one, whole)


def test_several_fields_of_view_stand_side_by_side(models, patches):
    encoder = fitted(models / "vit", diameter_um=(16, 64.0))
    assert encoder.diameters_um == (16, 64.0)
    some = patches(32, s=2)
    single = fitted(models / "vit")
    close(encoder(some), np.hstack([single(some[:, :1]), single(some[:, 1:])]))
    assert len(encoder.feature_names) == 32
    assert encoder.feature_names[16] == "cls_0_64um"


def test_half_precision_agrees_to_two_digits(models, patches):
    full, half = (fitted(models / "vit", precision=p)(patches(32)) for p in (None, "bf16"))
    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 0.1


def test_same_again_and_in_another_process(models, patches):
    encoder = fitted(models / "vit")
    some = encoder(patches(32))
    np.testing.assert_array_equal(encoder(patches(32)), some)
    sent = pickle.loads(pickle.dumps(encoder))  # noqa: S301
    assert sent._network is None
    np.testing.assert_array_equal(sent(patches(32)), some)
    assert sent.fingerprint == encoder.fingerprint


def test_fingerprint_follows_weights_and_settings(models, tmp_path):
    folder = shutil.copytree(models / "vit", tmp_path / "other_name")
    known = TransformersEncoder(models / "vit").fingerprint
    assert TransformersEncoder(folder, device="cpu", batch_size=3).fingerprint == known
    for options in ({"pooling": "mean"}, {"precision": "bf16"}, {"mean": (0.0,) * 3}, {"patch_px": 48}):
        assert TransformersEncoder(folder, **options).fingerprint != known
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert TransformersEncoder(folder).fingerprint != known


def test_switches_of_transformers_are_left_as_they_were(models, capfd):
    from transformers.utils import logging as switches

    before = switches.get_verbosity(), switches.is_progress_bar_enabled()
    fitted(models / "vit")
    assert (switches.get_verbosity(), switches.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_coarse_image_is_pointed_out(models, caplog):
    encoder = TransformersEncoder(models / "vit")
    sample = np.zeros((1, 1, 32, 32, 3), dtype=np.uint8)
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        encoder.fit(sample, um_per_px=0.9)
    assert not caplog.text
    encoder.fit(sample, um_per_px=4)
    assert "has 4 µm per pixel, the patches of vit have 0.5" in caplog.text


def test_model_of_text_is_refused(models):
    with pytest.raises(InputError, match=r"model of images, found that bert is of the type 'bert'"):
        TransformersEncoder(models / "bert")


def test_model_of_images_and_text_is_refused(models, tmp_path):
    transformers.CLIPConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"model of images, found .* type 'clip'"):
        TransformersEncoder(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "from_the_future"}, "type 'from_the_future'.*newer transformers"),
        ({"architecture": "vit_tiny"}, "one of timm. Use TimmEncoder"),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Model"}},
            "brings its own. Read it .*trust_remote_code=True",
        ),
    ],
)
def test_foreign_configuration(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        TransformersEncoder(tmp_path)


OWN_CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class OwnConfig(PretrainedConfig):
    model_type = "own"


class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.cells = torch.nn.Conv2d(3, 6, 8, 8)
        self.post_init()

    def forward(self, pixel_values):
        return BaseModelOutput(last_hidden_state=self.cells(pixel_values).flatten(2).transpose(1, 2))
"""


def test_code_of_the_model_runs_only_with_consent(tmp_path, patches, monkeypatch):
    """The way of Hibou: a class of the model's own behind auto_map."""
    from safetensors.torch import save_file

    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own.py").write_text(OWN_CODE)
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(own | {"image_size": 16}))
    cells = {"cells.weight": torch.full((6, 3, 8, 8), 1 / 192), "cells.bias": torch.arange(6.0)}
    save_file(cells, folder / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "code"))
    with pytest.raises(InputError, match=r"brings its own. Read it .*trust_remote_code=True"):
        TransformersEncoder(folder)
    encoder = fitted(folder, trust_remote_code=True, mean=(0.0,) * 3, std=(1.0,) * 3)
    bright = patches(16)[:, 0].mean((1, 2, 3)) / 255
    close(encoder(patches(16)), bright[:, None] + np.arange(6))
    (folder / "own.py").write_text("from transformers.onnx import Gone\n")
    with pytest.raises(InputError, match=r"code of own .* found that it does not"):
        TransformersEncoder(folder, trust_remote_code=True)


def damaged(models, folder, change):
    shutil.copytree(models / "vit", folder)
    change(folder / "model.safetensors")
    return folder


def test_weights_that_are_not_all_there(models, tmp_path):
    from safetensors.torch import load_file, save_file

    def lose(path):
        weights = load_file(path)
        save_file({k: v for k, v in weights.items() if "layernorm" not in k}, path, metadata={"format": "pt"})

    cut = damaged(models, tmp_path / "cut", lambda path: path.write_bytes(path.read_bytes()[:500]))
    with pytest.raises(InputError, match="transformers cannot load them"):
        fitted(cut)
    none = damaged(models, tmp_path / "none", lambda path: path.unlink())
    with pytest.raises(InputError, match=r"weights \(model.safetensors\).*found config.json, preprocessor_config.json"):
        fitted(none)
    some = damaged(models, tmp_path / "some", lose)
    with pytest.raises(InputError, match=r"every weight of some.*missing \(first: .*layernorm"):
        fitted(some)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling to be one of cls, mean, cls.mean, found 'max'"),
        ({"precision": "int8"}, "precision to be one of bf16"),
        ({"um_per_px": 0}, "um_per_px to be a positive number"),
        ({"diameter_um": (100.0, -1.0)}, "diameter_um to be a positive number"),
        ({"batch_size": 0}, "batch_size"),
        ({"device": "gpu"}, "device to be auto, cpu, cuda"),
        ({"device": "cuda:77"}, "device that this machine has, found 'cuda:77'"),
        ({"device": "meta"}, "device that this machine has"),
    ],
)
def test_options_are_checked(models, options, message):
    with pytest.raises(InputError, match=message):
        fitted(models / "vit", **options)


def test_out_of_memory_says_what_helps(models, patches):
    encoder = fitted(models / "vit", batch_size=5)

    def full(**_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    encoder._network.forward = full
    with pytest.raises(InputError, match=r"memory for 5 patches of vit at a time on .*smaller batch_size"):
        encoder(patches(32))

    def broken(**_):
        raise RuntimeError("shapes cannot be multiplied")

    encoder._network.forward = broken
    with pytest.raises(RuntimeError, match="multiplied"):
        encoder(patches(32))


def test_names_wait_for_the_weights_and_patches_must_fit(models, patches):
    encoder = TransformersEncoder(models / "vit")
    with pytest.raises(RuntimeError, match="fit first"):
        _ = encoder.feature_names
    with pytest.raises(ValueError, match="32 × 32 × 3"):
        encoder(patches(16))


def test_missing_extra(monkeypatch, models):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'stmmr-kit\[vit\]'"):
        TransformersEncoder(models / "vit")


@pytest.mark.parametrize("name", ["phikon", "uni", "lazyslide:uni"])
def test_missing_torch_is_named(monkeypatch, name):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ImportError, match=r"torch is not installed; run: pip install 'stmmr-kit\[torch\]'"):
        encoder_of(name)


def test_image_through_histology(models):
    """From an image to obsm, by the real path."""
    import anndata as ad

    from stmmr.pp import histology

    rng = np.random.default_rng(0)
    adata = ad.AnnData(np.ones((20, 2), dtype=np.float32), obsm={"spatial": rng.uniform(20, 100, (20, 2))})
    encoder = TransformersEncoder(models / "vit", pooling="mean")
    image = rng.integers(0, 256, (120, 120, 3), dtype=np.uint8)
    histology(adata, image=image, um_per_pixel=0.5, encoder=encoder)
    assert adata.obsm["X_histology"].shape == (20, 16)
    assert adata.uns["stmmr"]["histology"]["encoder"] == "vit"
    assert np.ptp(adata.obsm["X_histology"], axis=0).min() > 0
