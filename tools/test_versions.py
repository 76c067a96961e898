"""Run the fast tests with the newest or the oldest versions of the packages that stmmr uses.

``newest`` installs what pip installs today, ``oldest`` the lower bounds of pyproject.toml, each into a new virtual
environment. torch is left out unless it is named, as on Linux pip may choose a build for CUDA of several GB; tests that
need it are skipped then.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("dask", "deseq", "integration", "leiden", "mudata", "slides", "spatialdata")
"""Extras that come without torch."""
WITH_TORCH = ("torch", "distributed", "vit")
TOOLS = ("hypothesis", "pytest", "pytest-xdist", "pyyaml")
MORE_TOOLS = ("spatialdata-plot", "squidpy")
"""Packages that some tests compare with."""
NEED_NEWER = {"spatialdata"}
"""Extras whose own lower bounds are above those of stmmr: beside them, the oldest versions could not be installed."""
QUIET = ("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::FutureWarning")
"""Old packages do not know what newer ones, which are installed beside them, deprecate."""
SHOWN = ("anndata", "numpy", "pandas", "scanpy", "scikit-learn", "scipy", "zarr", "h5py", "matplotlib", "bokeh")


def main() -> int:
    """Make the environment, name its versions and run the tests."""
    options = _options()
    started = time.monotonic()
    venv = ROOT / f".venv-{options.which}"
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not options.keep or not python.exists():
        _make(venv, python, options)
    _say(f"Testing with {_versions(python, with_torch=bool(options.torch))}")
    filters = [f"-W{each}" for each in QUIET] if options.which == "oldest" else []
    tests = ["-m", "not slow and not browser", "-n", options.workers, "-q", *filters, *options.pytest]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    rc = subprocess.run([python, "-m", "pytest", *tests], cwd=ROOT, env=environment, check=False).returncode
    _say(f"{options.which}: {'passed' if rc == 0 else 'FAILED'} after {time.monotonic() - started:.0f} s")
    return rc


def _versions(python: Path, *, with_torch: bool) -> str:
    """Name the versions that an environment holds."""
    names = (*SHOWN, "torch") if with_torch else SHOWN
    code = f"from importlib.metadata import version; print(', '.join(f'{{n}} {{version(n)}}' for n in {names}))"
    versions = [
        subprocess.run([python, *do], check=True, capture_output=True, text=True) for do in (["-V"], ["-c", code])
    ]
    return ", ".join(each.stdout.strip() for each in versions)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Other options are those of pytest.")
    parser.add_argument("which", choices=["newest", "oldest"])
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment, e.g. python3.13")
    parser.add_argument("--torch", default="", help="what pip installs of torch, e.g. torch or torch==2.13.0")
    parser.add_argument("--workers", default="auto", help="processes of pytest (default: one per core)")
    parser.add_argument("--keep", action="store_true", help="use the environment that an earlier call made")
    options, more = parser.parse_known_args()
    options.pytest = more
    return options


def _make(venv: Path, python: Path, options: argparse.Namespace) -> None:
    interpreter = shutil.which(options.python)
    if interpreter is None:
        sys.exit(f"Expected a Python interpreter, found no command {options.python!r}. Give another: --python …")
    shutil.rmtree(venv, ignore_errors=True)
    _say(f"Making {venv.name} with {interpreter}")
    subprocess.run([interpreter, "-m", "venv", venv], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if options.torch:
        _say(f"Installing {options.torch}")
        subprocess.run([*pip, options.torch], check=True)
    wanted = requirements(options.which, with_torch=bool(options.torch))
    _say(f"Installing the {options.which} versions of {len(wanted)} packages and what they need")
    if options.which == "newest":
        subprocess.run([*pip, *wanted], check=True)
    else:  # pip itself cannot choose the oldest versions
        subprocess.run([*pip, "uv"], check=True)
        uv = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python, "--only-binary", ":all:"]
        subprocess.run([*uv, "--resolution", "lowest-direct", *wanted], check=True)
    subprocess.run([*pip, "--no-deps", "--editable", ROOT], check=True)


def requirements(which: str, *, with_torch: bool) -> list[str]:
    """List the requirements of the package, of its extras and of the tests."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = about["project"]
    extras = [name for name in EXTRAS if which == "newest" or name not in NEED_NEWER]
    extras += WITH_TORCH if with_torch else ()
    parts = [project["dependencies"], *(project["optional-dependencies"][name] for name in extras)]
    tools = TOOLS + (MORE_TOOLS if which == "newest" else ())
    parts.append([each for each in about["dependency-groups"]["test"] if _name(each) in tools])
    # extras name others as stmmr-kit[torch], and torch itself is installed before
    return [each for part in parts for each in part if _name(each) not in (project["name"], "torch")]


def _name(requirement: str) -> str:
    return re.split(r"[\s;<>=!~\[]", requirement, maxsplit=1)[0].lower()


def _say(text: str) -> None:
    print(f"== {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"This command failed: {' '.join(map(str, error.cmd))}")
