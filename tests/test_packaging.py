"""What is written about the package in several files agrees: versions, dependencies, addresses, extras."""

import ast
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import jinja2
import pytest

from stmmr._core.version import VERSION

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA_NAMES = {"matplotlib": "matplotlib-base"}
"""Of packages that Bioconda and conda-forge call differently."""
IMPORT_NAMES = {
    "pillow": "PIL",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "scikit-misc": "skmisc",
    "umap-learn": "umap",
    "openslide-python": "openslide",
}


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text())


@pytest.fixture(scope="module")
def recipe():
    template = jinja2.Template((ROOT / "packaging/bioconda/meta.yaml").read_text())
    pins = {"PYTHON": "python", "pin_subpackage": lambda name, max_pin: f"{name} {max_pin}"}
    return yaml.safe_load(template.render(pins))


@pytest.fixture(scope="module")
def module():
    return yaml.safe_load((ROOT / "packaging/nf-core/stmmr/run/meta.yml").read_text())


def test_versions_agree(citation, recipe):
    assert citation["version"] == recipe["package"]["version"] == VERSION
    assert f"stmmr_kit-{VERSION}.tar.gz" in recipe["source"]["url"]
    environment = yaml.safe_load((ROOT / "packaging/nf-core/stmmr/run/environment.yml").read_text())
    assert environment["dependencies"] == [f"bioconda::stmmr-kit={VERSION}"]
    assert (ROOT / "packaging/nf-core/stmmr/run/main.nf").read_text().count(f"stmmr-kit:{VERSION}--") == 2


def test_the_pipeline_calls_commands_that_exist():
    from stmmr import cli

    folder = ROOT / "packaging/nf-core/pipeline"
    text, config = ((folder / name).read_text() for name in ("main.nf", "nextflow.config"))
    assert f"stmmr-kit={VERSION}'" in config and f"stmmr-kit:{VERSION}--" in config
    options = re.search(r"run_args = '(--[^']*)'", config)[1]
    lines = re.findall(r"^ +(stmmr .*)", text, re.MULTILINE)
    commands = [line.replace("${params.run_args}", options) for line in lines]
    assert [command.split()[1] for command in commands] == ["run", "map"]
    for command in commands:
        words = re.sub(r"\$\{params\.\w+\}", "", re.sub(r"\$\{(?!params)[\w.]+\}", "x", command)).split()[1:]
        bound = cli.app.parse_args(words, exit_on_error=False, print_error=False)[1]
        assert bound.arguments
    declared = re.findall(r"^    (\w+) +=", config[: config.index("}")], re.MULTILINE)
    assert set(re.findall(r"params\.(\w+)", text)) == set(declared)


def test_addresses_agree(citation, recipe, module):
    urls = PROJECT["project"]["urls"]
    tool = module["tools"][0]["stmmr"]
    assert {citation["repository-code"], recipe["about"]["home"], tool["homepage"]} == {urls["Source"]}
    assert {citation["url"], recipe["about"]["doc_url"], tool["documentation"]} == {urls["Documentation"]}
    assert urls["Paper"].endswith(citation["preferred-citation"]["doi"])
    assert f"doi:{tool['doi']}" in recipe["extra"]["identifiers"]
    for file in (ROOT / "Dockerfile", ROOT / "pyproject.toml"):
        named = re.findall(r"https://(?:raw\.githubusercontent|github)\.com/([\w-]+/[\w-]+)", file.read_text())
        assert set(named) == {"stmmr/stmmr-kit"}


def test_conda_package_needs_what_the_wheel_needs(recipe):
    wheel = dict(re.fullmatch(r"([\w-]+)(.*)", each).groups() for each in PROJECT["project"]["dependencies"])
    wheel = {CONDA_NAMES.get(name, name): bound for name, bound in wheel.items()}
    conda = dict(each.split(" ") for each in recipe["requirements"]["run"])
    assert conda == wheel | {"python": PROJECT["project"]["requires-python"]}
    built_with = {each.split(">")[0] for each in PROJECT["build-system"]["requires"]}
    assert built_with | {"pip", "python >=3.11"} == set(recipe["requirements"]["host"])


def packages_imported():
    """Find the packages that the source imports, also inside functions."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.split(".")[0]


def import_names(requirements):
    names = [re.match(r"[\w-]+", each)[0] for each in requirements]
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def test_required_packages_are_imported_and_imported_ones_required():
    imported = set(packages_imported()) - sys.stdlib_module_names - {"stmmr"}
    required = import_names(PROJECT["project"]["dependencies"])
    assert required <= imported
    extras = import_names(sum(PROJECT["project"]["optional-dependencies"].values(), []))  # noqa: RUF017
    of_others = {
        "cloudpickle",
        "geopandas",
        "mpl_toolkits",
        "numba",
        "xarray",
    }  # of dask, matplotlib, scanpy, spatialdata
    assert imported - required - extras <= of_others


def test_messages_name_extras_that_exist():
    text = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = {*re.findall(r"stmmr-kit\[(\w+)\]", text), *re.findall(r'extra="(\w+)"', text)}
    assert "leiden" in named
    assert named <= set(PROJECT["project"]["optional-dependencies"])
    assert "'stmmr[" not in text


def test_pinned_packages_satisfy_the_bounds():
    requirements = pytest.importorskip("packaging.requirements")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    extras = PROJECT["project"]["optional-dependencies"]
    groups = PROJECT["dependency-groups"]
    wanted = [*PROJECT["project"]["dependencies"], *sum(extras.values(), []), *groups["lint"], *groups["test"]]  # noqa: RUF017
    for text in wanted + groups["docs"]:
        requirement = requirements.Requirement(text)
        name = requirement.name.lower()
        if name in {"stmmr-kit", "timm", "lazyslide-models"}:
            continue
        assert requirement.specifier.contains(pins[name]), text


@pytest.fixture(scope="module")
def setup():
    spec = importlib.util.spec_from_file_location("setup_venv", ROOT / "tools/setup_venv.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_setup_refuses_an_old_python(setup, monkeypatch):
    monkeypatch.setenv("GOAL", "test")
    monkeypatch.setattr(setup.shutil, "which", lambda name: "somewhere" if name == "python3.12" else None)
    monkeypatch.setattr(setup, "_usable", lambda python: python is not None)
    expected = "3.11 or newer is needed, found 3.9 at /usr/bin/python3; run: make test PYTHON=python3.12"
    with pytest.raises(SystemExit, match=expected):
        setup.check_python((3, 9, 18), "/usr/bin/python3")
    monkeypatch.setattr(setup.shutil, "which", lambda _: None)
    with pytest.raises(SystemExit, match="install one, then run: make test PYTHON=/path/to/python3"):
        setup.check_python((3, 9, 18), "/usr/bin/python3")
    setup.check_python((3, 11, 0), "/usr/bin/python3")


def test_setup_tells_how_far_pip_is(setup, capsys):
    progress = setup.Progress()
    progress.show("Collecting numpy>=1.26 (from stmmr-kit==0.1.0)\n")
    progress.show("  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (16.9 MB)\n")
    assert capsys.readouterr().out == ""
    progress.show("Installing collected packages: numpy, scipy\n")
    assert capsys.readouterr().out == "  unpacking 2 packages\n"
    progress.show("Successfully installed numpy-2.4.6 scipy-1.17.1\n")
    assert progress.n_installed == 2


def test_setup_finds_the_pin_of_torch(setup, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert re.fullmatch(r"torch==[\d.]+", setup.pinned("torch"))
