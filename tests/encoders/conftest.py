"""Tiny models with random weights, saved the way the libraries save them; nothing is downloaded."""

import json

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")

LOOK = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "size": {"height": 32, "width": 32}}
MEAN, STD = [0.7, 0.6, 0.5], [0.2, 0.3, 0.4]


def saved(network, folder, **look):
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(LOOK | {"image_mean": MEAN, "image_std": STD} | look))
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folder with the folders vit, dino, resnet, convnext, swin and bert."""
    import torch

    folder = tmp_path_factory.mktemp("models")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = transformers.ViTConfig(**small, image_size=32, patch_size=8)
        saved(transformers.ViTModel(vit, add_pooling_layer=False), folder / "vit")
        dino = transformers.Dinov2WithRegistersConfig(**small, image_size=56, patch_size=14, num_register_tokens=4)
        saved(
            transformers.Dinov2WithRegistersModel(dino),
            folder / "dino",
            size={"shortest_edge": 48},
            do_center_crop=True,
            crop_size={"height": 42, "width": 42},
        )
        resnet = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        saved(transformers.ResNetModel(resnet), folder / "resnet", size={"shortest_edge": 32})
        convnext = transformers.ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1])
        saved(transformers.ConvNextModel(convnext), folder / "convnext", size={"shortest_edge": 32})
        swin = transformers.SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
        saved(transformers.SwinModel(swin), folder / "swin")
        bert = transformers.BertConfig(**small, vocab_size=50)
        transformers.BertModel(bert).save_pretrained(folder / "bert")
    return folder


@pytest.fixture
def patches():
    """Patches of a side, (7, 1, px, px, 3)."""

    def make(px, n=7, s=1):
        return np.random.default_rng(0).integers(0, 256, (n, s, px, px, 3), dtype=np.uint8)

    return make
