"""Make .venv and install stmmr into it, saying what happens: ``python tools/setup_venv.py core`` or ``all``.

``core`` is what ``make demo`` needs, ``all`` adds the extras and what tests, style checks and docs need. Runs on any
Python 3, so that one that is too old is told which is needed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

NEEDED = (3, 11)
NEWEST = 14
VENV = Path(".venv")
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOG = VENV / "setup.log"
QUIET_S = 15  # between two lines of progress where lines cannot be replaced
LAST_LINES = 15  # of pip's output that an error shows
PIP = ["-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check", "--no-input"]


def main(what):
    """Bring .venv up to date and mark it, unless a set-up at the same time has done so."""
    stamp = VENV / {"core": ".core", "all": ".installed"}[what]
    if not _usable(PYTHON):
        check_python(sys.version_info, sys.executable)
        VENV.mkdir(exist_ok=True)
    with locked(VENV / ".lock"):
        if stamp.exists() and stamp.stat().st_mtime > newest_source():
            return
        if not _usable(PYTHON):
            make_venv()
        if what == "core":
            install("stmmr and the packages it needs", "--constraint=requirements.txt", "--editable=.")
        else:
            # by itself and first: asked for by another package, pip may choose the newest build for CUDA instead
            install("torch (the largest package)", "--constraint=requirements.txt", pinned("torch"))
            install("the extras, and packages for tests, style and docs", "--requirement=requirements.txt")
        stamp.touch()


def check_python(version, executable):
    """Refuse a Python that is too old or cannot make environments, and say what to run instead."""
    goal = os.environ.get("GOAL") or "demo"
    if tuple(version[:2]) < NEEDED:
        found = "Python {}.{} or newer is needed, found {}.{} at {}".format(*NEEDED, *version[:2], executable)
        names = [f"python3.{minor}" for minor in range(NEWEST, NEEDED[1] - 1, -1)]
        better = next((name for name in names if _usable(shutil.which(name))), None)
        run = f"run: make {goal} PYTHON={better or '/path/to/' + names[0]}"
        sys.exit(f"{found}; {run if better else 'install one, then ' + run}")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        sys.exit(
            "Python {}.{} at {} cannot make a virtual environment: ensurepip is missing. On Debian and Ubuntu run: "
            "sudo apt install python{}.{}-venv".format(*version[:2], executable, *version[:2])
        )


def make_venv():
    """Make .venv with the Python that runs this, in place of one that does not run or is too old."""
    say(f"Making .venv with Python {sys.version.split()[0]} ({sys.executable})")
    for old in VENV.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(str(old))
        elif old.name != ".lock":
            old.unlink()
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)


def _usable(python):
    """Find out whether an interpreter runs and is new enough."""
    if python is None or not Path(python).exists():
        return False
    code = f"import sys; sys.exit(sys.version_info < {NEEDED})"
    return subprocess.run([str(python), "-c", code], stderr=subprocess.DEVNULL, check=False).returncode == 0


def newest_source():
    """Get the time of the last change of the files that tell what to install."""
    return max(Path(name).stat().st_mtime for name in ("requirements.txt", "pyproject.toml"))


def pinned(name):
    """Get the line of requirements.txt for a package."""
    return re.search(rf"^{name}==\S+", Path("requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)[0]


@contextmanager
def locked(path):
    """Let one set-up of this folder run at a time; the system frees the lock of a process that ends."""
    with path.open("w") as file:
        if os.name != "nt":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("Waiting for another set-up of .venv")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install(what, *arguments):
    """Run pip, keep its output in the log, and show its progress in a line."""
    say(f"Installing {what}")
    start = time.monotonic()
    progress = Progress()
    with LOG.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [str(PYTHON), *PIP, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, PYTHONUNBUFFERED="1"),
            encoding="utf-8",
            errors="replace",
        )
        lines = []
        for line in process.stdout:
            log.write(line)
            lines.append(line.rstrip())
            progress.show(line)
    if process.wait():
        first = next((number for number, line in enumerate(lines) if line.startswith("ERROR")), 0)
        said = "\n".join(lines[first:][-LAST_LINES:])
        sys.exit(f"{said}\npip could not install {what}; its whole output is in {LOG}.")
    progress.end(f"{progress.n_installed} packages installed in {time.monotonic() - start:.0f} s")


class Progress:
    """Turn the lines of pip into one line that is replaced, or into one every few seconds."""

    def __init__(self):
        self.n_found = self.n_installed = 0
        self._replaced = sys.stdout.isatty()
        self._last = time.monotonic()

    def show(self, line):
        """Take a line of pip's output, and say how far it is."""
        words = line.split()
        if line.startswith("Collecting "):
            self.n_found += 1
            self._write(f"{self.n_found} packages found, downloading {re.split('[<>=!~;[ ]', words[1])[0]}")
        elif line.startswith("Installing collected packages"):
            self._write(f"unpacking {len(words) - 3} packages", now=True)
        elif line.startswith("Successfully installed"):
            self.n_installed = len(words) - 2

    def _write(self, text, now=False):  # noqa: FBT002
        if self._replaced:
            print(f"\r\033[K  {text}", end="", flush=True)
        elif now or time.monotonic() - self._last > QUIET_S:
            self._last = time.monotonic()
            print(f"  {text}", flush=True)

    def end(self, text):
        """Write the last line."""
        print(f"{chr(13) + chr(27) + '[K' if self._replaced else ''}  {text}", flush=True)


def say(text):
    """Write a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", choices=["core", "all"])
    packages = parser.parse_args().packages
    os.chdir(str(Path(__file__).resolve().parents[1]))
    try:
        main(packages)
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command goes on from here.")
    except subprocess.CalledProcessError as error:
        sys.exit(f"This command failed: {' '.join(error.cmd)}")
