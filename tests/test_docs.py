"""The pages: links lead somewhere, every public name is in the reference, the site builds and its tutorials run."""

import ast
import html
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import stmmr

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("api/*.md"), *DOCS.glob("tutorials/*.md"), *ROOT.glob("*.md")])
MODULES = ["datasets", "encoders", "io", "pl", "pp", "report", "reproduce", "tl"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^(`{3,}|:{3,})\{?code.*?^\1|^```(?:bash|python|text)?$.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def slug(heading):
    """Name the place of a heading as GitHub does."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        path, _, place = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert target.is_relative_to(ROOT)
        if place:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert place in map(slug, headings), f"{page.name} links to {link}"


def shown(part):
    """Write a part of an f-string, … for a value and '…' for its repr."""
    return part.value if isinstance(part, ast.Constant) else "'…'" if part.conversion == ord("r") else "…"


def messages():
    """Get the texts of the package, with … for each value in them."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(map(shown, node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[-+.\d]*[a-z]", "…", node.value)


def test_messages_in_the_faq_are_those_of_the_package():
    table = (DOCS / "faq.md").read_text(encoding="utf-8").partition("## Error messages")[2]
    quoted = [
        cell for row in re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE) for cell in re.findall("`(.*?)`", row)
    ]
    assert len(quoted) > 20
    known = list(messages())
    patterns = {cell: ".*".join(map(re.escape, cell.split("…"))) for cell in quoted}
    assert [cell for cell, pattern in patterns.items() if not any(re.search(pattern, text) for text in known)] == []


def test_links_are_found():
    text = "[a](b.md) `[c](d.md)` ![e](f.png)\n```python\nx[0](1)\n```\n"
    assert LINK.findall(CODE.sub("", text)) == ["b.md", "f.png"]


def referred(page):
    """Get the names in the tables of a page of the reference, and those that it says by their full name."""
    text = page.read_text(encoding="utf-8")
    tables = re.findall(r"currentmodule:: (\S+)\n(.*?)```", text, re.DOTALL)
    listed = {f"{module}.{name}" for module, table in tables for name in re.findall(r"^   (\w+)$", table, re.MULTILINE)}
    return listed | set(re.findall(r"`(stmmr\.\w+\.\w+)`", text))


@pytest.mark.parametrize("module", MODULES)
def test_reference_has_every_public_name(module):
    public = {f"stmmr.{module}.{name}" for name in importlib.import_module(f"stmmr.{module}").__all__}
    assert public - referred(DOCS / "api" / f"{module}.md") == set()


def test_reference_has_every_name_at_the_top():
    at_the_top = {f"stmmr.{name}" for name in set(stmmr.__all__) - {*MODULES, "settings"}}
    of_settings = {f"stmmr.settings.{name}" for name in ("Settings", "verbosity", "max_memory", "threads")}
    assert at_the_top | of_settings == referred(DOCS / "api.md")


def built(tmp_path):
    """Build a copy of the pages, as what is generated goes beside them; no real data are near it."""
    for package in ("sphinx", "myst_nb", "pydata_sphinx_theme", "latex2mathml"):
        pytest.importorskip(package)
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("_build", "generated", "__pycache__"))
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--jobs=auto"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "STMMR_SHARED": str(tmp_path)}
    done = subprocess.run(
        [*command, tmp_path / "docs", tmp_path / "site"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return tmp_path / "site"


@pytest.mark.nightly
@pytest.mark.slow
def test_site_builds_without_a_warning_and_tutorials_run(tmp_path):
    site = built(tmp_path)
    tutorials = {path.stem: path.read_text(encoding="utf-8") for path in (site / "tutorials").glob("*.html")}
    assert "'chosen': 4" in html.unescape(tutorials["first_section"])
    for name in ("first_section", "genes_and_trajectory", "several_sections"):
        assert tutorials[name].count("<img alt=") >= 2
    assert "the data set was not available" in " ".join(tutorials["real_cortex"].split())
    assert tutorials["real_cortex"].count("<img alt=") >= 3  # kept from an earlier build
    concepts = (site / "concepts.html").read_text(encoding="utf-8")
    equations = re.findall(r"<math .*?</math>", concepts, re.DOTALL)
    assert len(equations) > 60
    assert [one for one in equations if re.search(r"\\|&#x00026;|&amp;", one)] == []  # what was not understood
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="https?:[^"]+"', text) == [], page.name


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.realdata
def test_tutorial_of_real_data_runs(shared_data, monkeypatch):
    monkeypatch.setenv("STMMR_SHARED", str(shared_data.parent))
    text = (DOCS / "tutorials" / "real_cortex.md").read_text(encoding="utf-8")
    names = {}
    for cell in re.findall(r"^```\{code-cell\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(cell, names)  # noqa: S102  # our own page
    plt.close("all")
    assert names["scores"]["ari"] > 0.5
    assert names["rho"] > 0.8
