"""The rules of the house: which way imports go, what an import loads, how functions look."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import stmmr

SOURCE = Path(stmmr.__file__).parent
ORDER = [
    "_core",
    "settings",
    "datasets",
    "image",
    "io",
    "encoders",
    "linear",
    "nn",
    "pp",
    "model",
    "tl",
    "pl",
    "report",
    "pipeline",
    "reproduce",
    "cli",
]


def rooms_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stmmr"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("stmmr."))


def test_imports_never_go_back():
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for other in set(rooms_imported(path)) - {room}:
            assert ORDER.index(other) < ORDER.index(room), f"{path.name} imports {other}"


@pytest.mark.parametrize("room", ["tl", "pl", "report", "io", "pp"])
def test_only_the_model_knows_torch(room):
    for path in (SOURCE / room).rglob("*.py"):
        assert "import torch" not in path.read_text(), path


def test_import_is_light():
    code = "import sys, stmmr; print([m for m in ('torch', 'scanpy', 'matplotlib', 'anndata') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_rooms_of_pictures_leave_torch_alone_until_an_encoder_needs_it():
    code = (
        "import sys, stmmr.encoders, stmmr.pp; "
        "print([m for m in ('torch', 'transformers', 'timm', 'huggingface_hub') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def public_functions():
    for room in (stmmr.io, stmmr.pp, stmmr.tl, stmmr.pl, stmmr.report, stmmr.datasets):
        for name in getattr(room, "__all__", []):
            if inspect.isfunction(found := getattr(room, name)):
                yield pytest.param(found, id=f"{room.__name__}.{name}")
    yield stmmr.run


@pytest.mark.parametrize("function", list(public_functions()))
def test_public_functions_have_docs_and_few_positional_parameters(function):
    parameters = inspect.signature(function).parameters.values()
    assert sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) <= 3
    assert function.__doc__
    for parameter in list(parameters)[1:]:
        assert parameter.name in function.__doc__


def test_public_names():
    for name in stmmr.__all__:
        assert getattr(stmmr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stmmr.nothing
