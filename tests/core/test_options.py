"""Arguments of the public functions: their ranges, unknown names, and the options that signatures and help show."""

import inspect
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from anndata import AnnData

import stmmr
from stmmr._core.options import OBJECTS, Checked, checked, option_names, shows_options
from stmmr.settings import Settings, settings_of

FUNCTIONS = [
    pytest.param(getattr(room, name), id=f"{room.__name__}.{name}")
    for room in (stmmr.pp, stmmr.tl, stmmr.pl, stmmr.report)
    for name in room.__all__
    if inspect.isfunction(getattr(room, name)) and inspect.signature(getattr(room, name)).parameters
]


def arguments(function):
    """Get a value for each argument that must be given."""
    needed = {p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty}
    known = {
        "adata": AnnData(np.ones((3, 2))),
        "reference": AnnData(np.ones((3, 2))),
        "model": SimpleNamespace(adata=None),
        "n_domains": 3,
        "genes": ["a"],
        "background": ["a"],
        "groups": {"A": ["1"]},
        "names": {"1": "A"},
    }
    return {name: known.get(name, "a") for name in needed if name != "options"}


def numeric(function):
    for parameter in inspect.signature(function).parameters.values():
        types = str(parameter.annotation).split(" | ")
        if ("int" in types or "float" in types) and parameter.name != "z":
            yield parameter


@pytest.mark.parametrize("function", FUNCTIONS)
def test_numbers_out_of_range_and_other_types_are_input_errors(function):
    for parameter in numeric(function):
        for wrong in ("three", np.nan, [1], *([None] if parameter.default is not None else [])):
            text = f"{function.__name__}: {parameter.name}={wrong!r}"
            with pytest.raises(stmmr.InputError) as caught:
                function(**arguments(function) | {parameter.name: wrong})
            assert str(caught.value).startswith(f"Expected {parameter.name} to be "), text
            assert str(caught.value).endswith(f"found {wrong!r}."), text


@pytest.mark.parametrize("function", FUNCTIONS)
def test_whole_numbers_are_neither_parts_nor_negative_nor_true(function):
    for parameter in numeric(function):
        if "int" in str(parameter.annotation).split(" | "):
            for wrong in (2.5, -1, True):
                with pytest.raises(stmmr.InputError, match=f"Expected {parameter.name} to be a "):
                    function(**arguments(function) | {parameter.name: wrong})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_keys_are_names_and_switches_true_or_false(function):
    for parameter in inspect.signature(function).parameters.values():
        types = set(str(parameter.annotation).split(" | "))
        if types <= {"str", "None"} and parameter.name.endswith(("key", "_rep", "key_added", "layer", "library_id")):
            values, message = (3, ""), "to be a name, found"
        elif types <= {"bool", "None"}:
            values, message = ("he.png", 2), "to be True or False, found"
        else:
            continue
        for wrong in values:
            with pytest.raises(stmmr.InputError, match=f"Expected {parameter.name} {message}"):
                function(**arguments(function) | {parameter.name: wrong})


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("wrong", [None, "data.h5ad", 3])
def test_data_of_another_type_are_input_errors(function, wrong):
    for name in set(OBJECTS) & set(arguments(function)):
        with pytest.raises(stmmr.InputError, match=f"Expected {name} to be an? .*, found {type(wrong).__name__}"):
            function(**arguments(function) | {name: wrong})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda adata: stmmr.tl.consensus(adata, "three"), "a positive whole number or 'auto', found 'three'"),
        (
            lambda adata: stmmr.tl.consensus(adata, 3, random_state=-1),
            "random_state to be a whole number from 0 to",
        ),
        (lambda adata: stmmr.tl.umap(adata, random_state=2**32), "random_state to be a whole number from 0 to"),
        (lambda adata: stmmr.tl.cut_tree(adata, "auto"), "n_domains to be a positive whole number, found 'auto'"),
        (lambda adata: stmmr.tl.enhance(adata), "Expected model to be a model"),
        (lambda adata: stmmr.tl.domain_genes(adata, min_share=1.5), "min_share to be a number from 0 to 1, found 1.5"),
        (
            lambda adata: stmmr.tl.consensus(adata, 3, scales=(1.0, 0)),
            "each of scales to be a positive number",
        ),
        (lambda adata: stmmr.pl.values(adata, "a", alpha=2), "alpha to be a number from 0 to 1, found 2"),
        (lambda adata: stmmr.pp.spatial_graph(adata, bandwidth=0), "bandwidth to be a positive number, found 0"),
    ],
)
def test_messages(call, message):
    with pytest.raises(stmmr.InputError, match=message):
        call(AnnData(np.ones((3, 2))))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_unknown_name_is_a_type_error_that_suggests_the_closest(function):
    name = list(inspect.signature(function).parameters)[-1]
    if name == "options":  # of an encoder
        return
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected .*{name}x"):
        function(**arguments(function) | {f"{name}x": 1})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_help_documents_what_the_signature_shows(function):
    section = (function.__doc__ or "").partition("Parameters\n")[2].partition("\nReturns\n")[0]
    documented = [line.strip(" *") for line in inspect.cleandoc(section).splitlines() if not line.startswith(" ")]
    names = {name for line in documented for name in line.split(", ")}
    parameters = set(inspect.signature(function).parameters)
    assert names >= parameters or parameters == {"adata"}


@pytest.mark.parametrize("name", option_names(Settings))
def test_settings_of_the_model_are_in_their_ranges(name):
    for wrong in ("x", np.nan, -1, [0]):
        with pytest.raises(stmmr.InputError, match=f"Expected {name} to be "):
            settings_of("default", **{name: wrong})


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """Options.

    Attributes
    ----------
    n_init
        Number of starts.
    """

    n_init: int = 3


@checked
@shows_options(Options)
def function(adata, *, random_state: int = 0, **options):
    """Do something.

    Parameters
    ----------
    adata
        Data.
    random_state
        Seed.

    Returns
    -------
    A number.
    """
    return Options(**options).n_init


def test_options_are_shown_in_place_of_the_rest():
    assert list(inspect.signature(function).parameters) == ["adata", "random_state", "n_init"]
    assert "random_state\n    Seed.\nn_init\n    Number of starts.\n\nReturns\n" in function.__doc__
    assert function(AnnData(), n_init=5) == 5
    with pytest.raises(TypeError, match=r"function\(\) got an unexpected option 'n_inits'. Did you mean 'n_init'\?"):
        function(AnnData(), n_inits=5)
    with pytest.raises(TypeError, match=r"function\(\) missing 1 required positional argument: 'adata'"):
        function()
