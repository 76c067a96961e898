import os
import subprocess
import sys
import warnings
from importlib import metadata

import pytest

import stmmr
from stmmr._core import version


def test_one_version_everywhere():
    assert stmmr.__version__ == version.VERSION == metadata.version("stmmr-kit")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put the metadata folder of a package on the path of imports."""

    def install(name):
        (tmp_path / name).mkdir()
        monkeypatch.syspath_prepend(tmp_path)

    return install


@pytest.mark.parametrize("name", ["stMMR-1.0.1.dist-info", "stmmr-2.0.dist-info"])
def test_authors_package_beside_ours(installed, name):
    installed(name)
    with pytest.warns(UserWarning, match=r"The package stmmr [\d.]+ .* beside stmmr-kit.* pip uninstall stmmr\."):
        version.warn_of_authors_package()


def test_authors_package_in_our_folder(installed, tmp_path, monkeypatch):
    installed("stMMR-1.0.1.dist-info")
    folder = tmp_path / "stmmr" / "_core"
    folder.mkdir(parents=True)
    (folder.parent / "train_model.py").touch()
    monkeypatch.setattr(version, "__file__", str(folder / "version.py"))
    with pytest.warns(UserWarning, match=r"same folder.* pip uninstall --yes stmmr stmmr-kit, then"):
        version.warn_of_authors_package()


@pytest.mark.parametrize("name", ["stmmr_kit-1.0.0.dist-info", "stmmr-0.1.0.dist-info", "stmmr_tools-1.0.dist-info"])
def test_our_own_package_is_no_reason_to_warn(installed, name):
    installed(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        version.warn_of_authors_package()


def test_warning_comes_once_and_imports_no_metadata(tmp_path):
    (tmp_path / "stMMR-1.0.1.dist-info").mkdir()
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    code = "import sys; known = 'importlib.metadata' in sys.modules; import stmmr, stmmr.settings; "
    code += "assert ('importlib.metadata' in sys.modules) is known"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert out.stderr.count("beside stmmr-kit") == 1
