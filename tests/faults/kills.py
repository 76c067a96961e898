"""Kill commands at random moments: ``python kills.py FOLDER SEED NUMBER [CASE …]``, with a section ``in.h5ad`` there.

Without a case, each kill is of a random one. An earlier result in ``trained/out`` is used, otherwise one is made.
Packages are imported once; each command runs in a fork. After each kill, the files on disk must be those of before or
whole new ones; a command that is not killed any more must end as if there had been no kill.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import h5py
import numpy as np

AT_A_TIME = 4
"""Kills of a command until it may finish."""
NOTES = {"notes.txt": "years of work", "model/notes.txt": "more work", "figures/mine.txt": "by hand"}


class Case:
    """A command, what is there before it, and what it leaves."""

    def __init__(self, folder, name, *arguments, earlier=None):
        self.source, self.folder, self.name, self.earlier = folder, folder / name, name, earlier
        self.arguments = [*map(str, arguments), "--no-progress", "-q"]
        self.reset()
        start = time.monotonic()
        assert self.run() == 0, (self.folder / "log.txt").read_text()
        self.seconds = time.monotonic() - start
        self.files, self.domains, self.embedded = self.listing(), self.table(), self.embedding()
        self.others = self.inputs()

    @property
    def out(self):
        return self.folder / "out"

    def reset(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        if self.earlier is not None:
            shutil.copytree(self.earlier, self.out)
            (self.out / "figures").mkdir()
            for name, text in NOTES.items():
                (self.out / name).write_text(text)
        self.before = self.table()

    def run(self, killed_after=None):
        """Run in a fork; get the exit status, or the signal as a negative number."""
        process = os.fork()
        if not process:
            self.child()
        if killed_after is not None:
            end = time.monotonic() + killed_after
            while time.monotonic() < end:
                done, status = os.waitpid(process, os.WNOHANG)
                if done:
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.002)
            os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def child(self):
        from stmmr import cli

        log = os.open(self.folder / "log.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = 99
        try:
            cli.main([argument.replace("OUT", str(self.out)) for argument in self.arguments])
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:  # noqa: BLE001
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def table(self):
        path = self.out / "domains.csv"
        return path.read_bytes() if path.exists() else None

    def embedding(self):
        with h5py.File(self.out / "result.h5ad") as file:
            return file["obsm/X_stmmr"][:].tobytes()

    def listing(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def inputs(self):
        """Hash what the command reads."""
        paths = [self.source / "in.h5ad", self.source / "other.h5ad", *sorted((self.source / "trained").rglob("*"))]
        return [hashlib.blake2b(path.read_bytes()).hexdigest() for path in paths if path.is_file()]

    def check(self):
        """Check what is there after a kill; tell what it is."""
        assert self.inputs() == self.others
        if self.earlier is not None:
            for name, text in NOTES.items():
                assert (self.out / name).read_text() == text
        if not self.out.exists():
            assert self.earlier is None
            return "nothing"
        facts = json.loads((self.out / "run.json").read_text())
        table = self.table()
        assert table in (self.before, self.domains)
        if (self.out / "result.h5ad").exists():
            check_data(self.out)
        for name in ("model.json", "weights.safetensors"):
            assert (self.out / "model" / name).exists() or "map" in self.name
        return ",".join(facts.get("unfinished", ["earlier" if table == self.before else "all"]))


def check_data(out):
    """Check that data and table are of one run."""
    import anndata as ad
    import pandas as pd

    adata, table = ad.read_h5ad(out / "result.h5ad"), pd.read_csv(out / "domains.csv", index_col=0)
    assert list(adata.obs_names) == list(table.index.astype(str))
    assert (adata.obs["stmmr_domain"].astype(str).to_numpy() == table["domain"].astype(str).to_numpy()).all()


def cohort(folder, source):
    """Make a run of two sections, whose counts are copied to the disk."""
    shutil.copy(source, folder / "other.h5ad")
    sheet = folder / "samples.csv"
    sheet.write_text(f"section,path,condition\none,{source},x\ntwo,other.h5ad,y\n")
    return Case(folder, "cohort", "run", sheet, "-o", "OUT", "--n-domains", 3, "--mode", "disk")


def cases_of(folder, source, names):
    result = folder / "trained/out"
    if not result.exists() and names != ("cohort",):
        Case(folder, "trained", "run", source, "-o", "OUT", "--n-domains", 3)
    options = {"earlier": result}
    cases = {
        "cohort": lambda: cohort(folder, source),
        "run": lambda: Case(folder, "run", "run", source, "-o", "OUT", "--n-domains", 3, "--mode", "disk"),
        "replace": lambda: Case(
            folder, "replace", "run", source, "-o", "OUT", "--n-domains", 2, "--overwrite", **options
        ),
        "analyse": lambda: Case(folder, "analyse", "analyse", "OUT", "--trajectory", **options),
        "map": lambda: Case(folder, "map", "map", source, "--model", result, "-o", "OUT", "--overwrite", **options),
    }
    return [cases[name]() for name in names or cases]


def main(folder, seed, number, *names):
    import bokeh.plotting
    import matplotlib.pyplot as plt
    import scanpy
    import umap.umap_

    import stmmr.model
    import stmmr.pipeline.commands
    import stmmr.report

    assert bokeh and plt and scanpy and umap and stmmr  # forks have them
    source, rng = folder / "in.h5ad", np.random.default_rng(seed)
    cases = cases_of(folder, source, names)
    kills, seen = 0, {}
    while kills < number:
        case = cases[int(rng.integers(len(cases)))]
        case.reset()
        for _ in range(min(AT_A_TIME, number - kills)):
            status = case.run(killed_after=rng.uniform(0, case.seconds))
            assert status in (0, -signal.SIGKILL), (case.folder / "log.txt").read_text()
            if not status:
                break
            kills += 1
            state = f"{case.name}: {case.check()}"
            seen[state] = seen.get(state, 0) + 1
        unfinished = not case.out.exists() or "unfinished" in json.loads((case.out / "run.json").read_text())
        if status or unfinished:
            status = case.run()
        assert status == 0, (case.folder / "log.txt").read_text()
        case.check()
        assert case.table() == case.domains
        assert case.embedding() == case.embedded
        assert case.listing() == case.files
        print(json.dumps({"kills": kills, "seed": seed, "seen": seen}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
