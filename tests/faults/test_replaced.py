"""An input that is replaced while it is read: one sentence, and nothing is published."""

import shutil
import sys
import warnings
from functools import cache

import pytest

from .conftest import contents, finish, some

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be replaced")]
HOOK = """
import os, shutil
from pathlib import Path
from stmmr.pipeline import folder as results, run as steps, writing
SOURCE, OTHER = Path({source!r}), Path({other!r})
def replace():
    if {inside} and SOURCE.is_file():
        SOURCE.write_bytes(OTHER.read_bytes())
    elif SOURCE.is_dir():
        shutil.rmtree(SOURCE)
        shutil.copytree(OTHER, SOURCE)
    else:
        os.replace(OTHER, SOURCE)
def first(module, name):
    real = getattr(module, name)
    def wrapped(*arguments, **options):
        if not done:
            done.append(1)
            replace()
        return real(*arguments, **options)
    setattr(module, name, wrapped)
done = []
first({module}, {name!r})
"""
OPTIONS = ("--mode", "disk", "--n-domains", 3, "--no-report", "--no-progress", "-q")
MOMENTS = {
    "after reading": ("steps", "_check"),
    "before the domains": ("steps", "log_result"),
    "before analyses": ("writing", "carry_out"),
    "before the data": ("results", "write_data"),
}


@pytest.fixture(scope="session")
def other(tissue):
    """Other counts of the same spots."""
    adata = tissue.copy()
    adata.X = adata.X[::-1].copy()
    return adata


@pytest.fixture(scope="session")
def expected(other, tmp_path_factory):
    """Get a function: the hash of the domains of what comes in place of the input, by a run that nothing disturbs."""

    @cache
    def domains(kind):
        folder = tmp_path_factory.mktemp("undisturbed")
        write(other, folder / f"in.{kind}")
        status, errors = finish("run", folder / f"in.{kind}", "-o", folder / "out", *OPTIONS)
        assert status == 0, errors
        return contents(folder / "out")["domains.csv"]

    return domains


def write(adata, path):
    with warnings.catch_warnings(action="ignore"):  # of formats to come
        getattr(adata, f"write_{path.suffix[1:]}")(path)


@pytest.mark.parametrize("kind", some(["h5ad", "zarr"], "h5ad"))
@pytest.mark.parametrize("inside", some([False, True], False))
@pytest.mark.parametrize("moment", some(MOMENTS, "before the data"))
def test_counts_on_disk(tissue, other, expected, tmp_path, moment, inside, kind):
    if inside and kind == "zarr":
        pytest.skip("a folder is replaced as a whole")
    for which, adata in (("in", tissue), ("other", other)):
        write(adata, tmp_path / f"{which}.{kind}")
    kept = tmp_path / "kept"
    move = shutil.copytree if kind == "zarr" else shutil.copy
    move(tmp_path / f"other.{kind}", kept)
    module, name = MOMENTS[moment]
    before = HOOK.format(
        source=str(tmp_path / f"in.{kind}"),
        other=str(tmp_path / f"other.{kind}"),
        inside=inside,
        module=module,
        name=name,
    )
    out = tmp_path / "out"
    status, errors = finish("run", tmp_path / f"in.{kind}", "-o", out, *OPTIONS, before=before)
    assert status == 1, (status, errors)
    assert "changed" in errors
    assert len(errors.splitlines()) == 1, errors
    assert not out.exists()
    assert kept.exists()
    status, errors = finish("run", tmp_path / f"in.{kind}", "-o", out, *OPTIONS)
    assert status == 0, errors
    assert contents(out)["domains.csv"] == expected(kind)
