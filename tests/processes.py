"""Commands in processes of their own, without the seconds that imports take.

Each is a fork of one process that has imported the packages; where forks are not safe, a new process.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import weakref
from pathlib import Path
from subprocess import TimeoutExpired

PACKAGES = [
    "scanpy",
    "umap.umap_",
    "bokeh.plotting",
    "stmmr.pipeline.commands",
    "stmmr.report",
    "stmmr.cli",
    "processes",
]
FORKS = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
if sys.platform == "linux":
    FORKS.set_forkserver_preload(PACKAGES)
COMMAND = "from stmmr.cli import main\nmain()"


class Process:
    """Run code with arguments; what tests use of :class:`subprocess.Popen`, with texts of both outputs."""

    def __init__(self, code, *arguments, cwd=None, env=None):
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._files = [Path(folder, name) for name in ("stdout", "stderr")]
        for file in self._files:
            file.touch()
        line = (code, list(map(str, arguments)), str(cwd or Path.cwd()), dict(env or os.environ), self._files)
        self._process = FORKS.Process(target=_run, args=line)
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        """Get the exit status, or the signal as a negative number; None while it runs."""
        return self._process.exitcode

    returncode = property(poll)

    @property
    def stdout(self):
        return self._files[0].read_text()

    @property
    def stderr(self):
        return self._files[1].read_text()

    def send_signal(self, number):
        """Send a signal to a process that runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout=900):
        """Wait for the end; get the exit status."""
        self._process.join(timeout)
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)
            raise TimeoutExpired("a fork", timeout)
        return self.returncode


def run(*arguments, code=COMMAND, **options):
    """Run ``stmmr``, or other code, to its end."""
    process = Process(code, *arguments, **options)
    process.wait()
    return process


def _run(code, arguments, cwd, env, files):
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, file in enumerate(files, 1):
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    import matplotlib as mpl

    mpl.use("agg")
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})  # noqa: S102 - code of the tests
