"""The rules of the package: the order of imports, what an import loads, how functions look."""

import ast
import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from docstring_parser import parse_from_object

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
    "exports",
    "pipeline",
    "report",
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


def test_four_files_at_the_root():
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "cli.py", "datasets.py", "settings.py"}


def test_few_rooms_import_private_modules_of_others():
    private = []
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stmmr."):
                other, *modules = node.module.split(".")[1:]
                if other not in (room, "_core") and any(module.startswith("_") for module in modules):
                    private.append((str(path.relative_to(SOURCE)), node.module))
    assert len(private) <= 50, private


def test_functions_are_short():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                assert node.end_lineno - body[0].lineno < 60, f"{path.name}: {node.name}"


def test_functions_have_few_parameters():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                names = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
                assert len(names - {"self", "cls"}) <= 8, f"{path.name}: {node.name}"


def test_files_are_short():
    for path in SOURCE.rglob("*.py"):
        assert path.read_text().count("\n") <= 400, path.name


@pytest.mark.parametrize("room", ["tl", "pl", "report", "io", "pp"])
def test_only_the_model_knows_torch(room):
    for path in (SOURCE / room).rglob("*.py"):
        assert "import torch" not in path.read_text(), path


def test_import_is_light():
    code = "import sys, stmmr; print([m for m in ('torch', 'scanpy', 'matplotlib', 'anndata') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_help_is_light():
    heavy = ("torch", "scanpy", "matplotlib", "anndata", "pandas", "scipy", "numpy")
    code = f"import sys, stmmr.cli; print([m for m in {heavy} if m in sys.modules])"
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
    for room in (stmmr.io, stmmr.pp, stmmr.tl, stmmr.pl, stmmr.report, stmmr.reproduce, stmmr.datasets):
        for name in getattr(room, "__all__", []):
            if inspect.isfunction(function := getattr(room, name)):
                yield pytest.param(function, id=f"{room.__name__}.{name}")
    for name in ("analyse", "export", "map", "read", "run"):
        yield pytest.param(getattr(stmmr, name), id=name)


@pytest.mark.parametrize("function", list(public_functions()))
def test_public_functions_have_docs_and_few_positional_parameters(function):
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    assert sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) <= 4
    assert function.__doc__
    code = inspect.unwrap(function).__code__
    own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    for name in own[1:]:
        assert name in function.__doc__


@pytest.mark.parametrize(
    "options",
    [stmmr.RunOptions, stmmr.MapOptions, stmmr.AnalysisOptions, stmmr.ExportOptions, stmmr.reproduce.ReproduceOptions],
)
def test_options_are_frozen_and_each_is_documented(options):
    assert options.__dataclass_params__.frozen
    documented = {
        parameter.arg_name
        for kind in options.__mro__[:-1]
        for parameter in parse_from_object(kind).params
        if parameter.description
    }
    assert documented >= {field.name for field in fields(options)}


def test_public_names():
    for name in stmmr.__all__:
        assert getattr(stmmr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stmmr.nothing
