"""JSON that stmmr wrote, changed by hand."""

import pytest

from stmmr._core.checks import InputError
from stmmr._core.validated import from_json, read_json
from stmmr.model.saved import Description
from stmmr.pipeline.folder import Facts
from stmmr.settings import PRESETS, asdict

GOOD = {
    "format": 3,
    "preset": "default",
    "use_rep": None,
    "use_histology": False,
    "random_state": 0,
    "settings": asdict(PRESETS["default"]),
    "gene_names": ["a", "b"],
    "history": {"loss": [1.0, 2]},
    "blocks": {"protein": {"key": "p", "likelihood": "nb", "weight": None}},
    "later": "ignored",
}


def test_a_good_description_becomes_dataclasses():
    made = from_json(Description, GOOD, where="a model")
    assert made.settings == PRESETS["default"]
    assert made.blocks["protein"].likelihood == "nb"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"preset": "nothing"}, "'nothing' for preset"),
        ({"use_histology": 1}, "1 for use_histology"),
        ({"random_state": True}, "True for random_state"),
        ({"gene_names": "ab"}, "'ab' for gene_names"),
        ({"gene_names": [1]}, "1 for gene_names"),
        ({"history": {"loss": ["x"]}}, r"'x' for history\.loss"),
        ({"history": {"loss": [float("nan")]}}, r"nan for history\.loss"),
        ({"settings": []}, r"\[\] for settings"),
        ({"settings": {**GOOD["settings"], "hidden": 2.5}}, r"2\.5 for settings\.hidden"),
        ({"settings": {"hidden": 3}}, "no 'features'"),
        ({"settings": {**GOOD["settings"], "dropout": 3}}, "Expected dropout to be a number"),
        ({"blocks": {"a": None}}, r"None for blocks\.a"),
        ({"blocks": {"a": {"key": "p", "likelihood": "x"}}}, "'x' for blocks"),
        ({"use_rep": {"a": "b" * 100}}, "for use_rep"),
    ],
)
def test_a_value_of_another_type_is_named(change, found):
    with pytest.raises(InputError, match=found):
        from_json(Description, GOOD | change, where="a model")


@pytest.mark.parametrize("content", [{"stmmr": 3}, {"analyses": {"a": 3}}, {"input": ["x"]}, {"options": None}])
def test_facts_of_a_result_are_mappings(content):
    from_json(Facts, {}, where="run.json")
    with pytest.raises(InputError, match=r"Expected run\.json, found"):
        from_json(Facts, content, where="run.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"a": ', "\x00"])
def test_what_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="Expected a note at"):
        read_json(tmp_path / "a.json", expected="a note")
