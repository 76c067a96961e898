from pathlib import Path

import numpy as np
import pytest

from stmmr import InputError, pp
from stmmr.encoders import HEEncoder, TransformersEncoder, encoder_of, encoders
from stmmr.encoders._registry import KNOWN

DOCS = Path(__file__).parents[2] / "docs" / "encoders.md"
COLUMNS = ["library", "patch_px", "um_per_px", "diameter_um", "n_features", "pooling", "licence", "gated", "source"]


def table():
    """The table of the docs."""
    shown = encoders()[COLUMNS].reset_index()
    shown["um_per_px"] = shown["um_per_px"].map("{:.3g}".format)
    shown["gated"] = np.where(shown["gated"], "yes", "")
    shown["source"] = [
        s if s == "stmmr" else f"[{m}]({s})" for m, s in zip(encoders()["model"], shown["source"], strict=True)
    ]
    heads = [
        "name",
        "library",
        "patch (px)",
        "µm per px",
        "field of view (µm)",
        "features",
        "pooling",
        "licence",
        "gated",
        "from",
    ]
    rows = [heads, ["---"] * len(heads), *shown.astype(str).to_numpy().tolist()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows).replace("|  |", "| |").replace("|  |", "| |")


def test_docs_hold_the_registry():
    """To renew them: paste what `table` returns."""
    assert table() in DOCS.read_text(encoding="utf-8")


def test_registry():
    known = encoders()
    assert known.index.is_unique
    assert known.index[0] == "he"
    assert known.loc["phikon", ["n_features", "patch_px", "gated"]].tolist() == [768, 224, False]
    assert known.loc["virchow2", "n_features"] == 2 * 1280
    assert known.loc["phikon", "diameter_um"] == "112"
    assert known.loc["phikon-v2":, "source"].str.startswith("https://huggingface.co/").all()
    assert pp.encoders is encoders
    he = HEEncoder(um_per_px=0.5)
    assert known.loc["he", "n_features"] == len(he.feature_names)


def test_every_known_model_names_options_that_its_encoder_has():
    from dataclasses import fields

    from stmmr.encoders._registry import CLASSES

    for known in KNOWN:
        names = {field.name for field in fields(CLASSES[known.library])}
        assert set(known.options) <= names, known.name


def test_encoder_by_name(models):
    assert encoder_of("he") == encoder_of(None) == HEEncoder()
    assert encoder_of("he", diameters_um=(50.0,)).diameters_um == (50.0,)
    own = HEEncoder((30.0,))
    assert encoder_of(own) is own
    for name in (models / "vit", str(models / "vit"), f"hf:{models / 'vit'}"):
        encoder = encoder_of(name, pooling="mean")
        assert isinstance(encoder, TransformersEncoder)
        assert (encoder.name, encoder.pooling) == ("vit", "mean")


def test_known_model_from_a_folder(models, patches):
    encoder = encoder_of("phikon", folder=models / "vit", um_per_px=1.0)
    assert (encoder.name, encoder.pooling, encoder.diameters_um) == ("phikon", "cls", (32.0,))
    by_model = encoder_of("Owkin/phikon", folder=models / "vit")
    assert by_model.name == "phikon"
    plain = TransformersEncoder(models / "vit").fit(patches(32), um_per_px=0.5)
    np.testing.assert_array_equal(encoder.fit(patches(32), um_per_px=0.5)(patches(32)), plain(patches(32)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("phicon", r"found 'phicon'. Did you mean 'phikon'.*give any other model as hf:NAME"),
        ("UNI2", r"Did you mean 'uni' or 'uni2-h'"),
        ("something else", r"found 'something else'. Known are he, phikon"),
        ("hibou-b", r"consent to run code that comes with hibou-b.*trust_remote_code=True"),
        (3, r"Expected an encoder or the name of one, found int without name, diameters_um"),
    ],
)
def test_names_that_are_none(name, message):
    with pytest.raises(InputError, match=message):
        encoder_of(name)


def test_options_go_with_a_name():
    with pytest.raises(InputError, match="options with the name of an encoder only, found pooling"):
        encoder_of(HEEncoder(), pooling="mean")
