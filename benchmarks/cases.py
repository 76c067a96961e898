"""Files as people have them, held against the right answers: `python -m benchmarks.cases` writes docs/platforms.md.

`../shared/cases` makes the inputs, a script for each kind; `../shared/fixtures` holds excerpts of what vendors write.
Each input is read, described by `stmmr info`, and run by the command that this ends with. Names behind the command
choose scripts, such as `05_obsm_forms`; then no page is written. With CASES_NO_RUNS=1, nothing is run.
"""

import argparse
import ast
import builtins
import contextlib
import importlib
import io
import logging
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import traceback
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy import sparse

import stmmr
from benchmarks._table import DATA, ROOT, Table, write_tables
from stmmr._core import space
from stmmr.cli import main

CASES, FIXTURES = DATA.parent / "cases", DATA.parent / "fixtures"
QUICK = ("--n-domains", "3", "--method", "kmeans", "--no-genes", "--no-report", "--no-progress")
AGREE = 0.9
"""ARI with the simulated stripes from which domains are right."""
NO_RUNS = "CASES_NO_RUNS"
"""Set in the environment to read and describe only."""
MARK = "@case "
"""Begins the lines that a script's process prints for this one."""

EXPECTED = {
    # genes have their symbols, and spots off the tissue are dropped; a run names the matrix with the counts
    "01_cellxgene: only_counts": r"^read: 160 of 256 spots, 0 of 40 genes, 40 other genes$",
    "01_cellxgene: with_raw": r"^read: 160 of 256 spots, 0 of 40 genes, 40 other genes; run: .*use --layer raw\.$",
    "02_seuratdisk: all": r"^run: .*use --layer raw\.$",
    "08_counts_forms: counts_in_raw": r"^run: .*use --layer raw\.$",
    "08_counts_forms: layer_raw_counts": r"^run: .*use --layer raw_counts\.$",
    "08_counts_forms: layer_Counts": r"^run: .*use --layer Counts\.$",
    "08_counts_forms: layer_counts_is_lognorm_X_is_counts": r"^run: .*use --layer X\.$",
    "08_counts_forms: nan_in_X": r"found 1 NaN or infinite entries\. Replace them first\.$",
    "05_obsm_forms: nan_some": r"found 3 of 256 cells without .*Remove them first\.$",
    # only the array is there
    "05_obsm_forms: object_categorical_rows": r"^coordinates as used: x,y = \[3\.\s+1\.73",
    "09_obs_columns: section_nan": r"found 64 of 256 without one\. Name their sections or remove them first\.$",
    # anndata cannot read what it wrote
    "09_obs_columns: empty_column_name": r"found content that cannot be read",
    # two sections whose stripes run in other directions
    "24_h5ad_of_tools: concat_without_uns": r"use --section-key|Give the column of obs .*--section-key sample",
    # the archive of the positions is no archive
    "10_geo_visium: D": r"^info: .*GSM1_spatial\.tar\.gz, found content that cannot be unpacked",
    # what is no gene, and what has no position, is dropped
    "12_visium_variants: antibodies": r"^read: 256 of 256 spots, 35 of 40 genes$",
    "12_visium_variants: aggr_suffix_2": r"^read: 128 of 256 spots, 40 of 40 genes$",
    "12_visium_variants: duplicated_symbols": r"^read: 256 of 256 spots, 38 of 40 genes, 2 other genes$",
    "13_xenium: v4_protein_and_controls": r"^read: 256 of 256 spots, 30 of 40 genes$",
    "13_xenium: cells_without_position": r"^read: 200 of 256 spots, 40 of 40 genes$",
    "13_xenium: only_zarr_zip": r"^info: .*File is not a zip file",
    "14_cosmx: names_of_controls": r"genes beyond the panel: \['Custom1', 'NEGR1'\]$",
    "14_cosmx: two_slides_in_one_file": r"512 other spots",
    "15_merscope: both_resaved_without_EntityID": r"256 other spots",
    "15_merscope: ids_as_floats_repeat": r"found 255 repeated names",
    "15_merscope: two_regions": r"512 other spots",
    # the table without a further name goes before that of a second segmentation
    "15_merscope: vpt_beside_original": r"^read: 100 of 256 spots, 40 of 40 genes$",
    # X is normalised, and a run takes the layer with the counts
    "18_slideseq: curio_seeker_folder": r"^read: 256 of 256 spots, 40 of 40 genes, other counts$",
    "18_slideseq: curio_seeker_h5ad": r"^read: 256 of 256 spots, 40 of 40 genes, other counts$",
    # the script looks for rows by their number, and cells have their own names
    "20_id_column_as_gene: all": r"^domains: ARI 0\.00 on 0 spots$",
    # a warning says what to do: nothing in the table tells
    "19_tables: seurat5_x_is_row": r"other positions",
    "19_tables: coords_without_names": r"other positions",
    "19_tables: one_table_few_genes": r"^read: 256 of 256 spots, 4 of 40 genes$",
    "19_tables: integer_names_genes_in_rows": r"256 other spots",
    "19_tables: normalised_values": r"none: first complete what is not usable",
    "19_tables: xlsx": r"Save each sheet as \.csv\.$",
    "19_tables: NA_coordinate": r"^read: 255 of 256 spots, 40 of 40 genes$",
    "23_paths: rds": r"Convert it in R: .*SeuratDisk::Convert",
    "23_paths: empty folder": r"found nothing",
    "24_h5ad_of_tools: squidpy_nanostring": r"^run: .*--section-key fov, or --section-key auto\.$",
    "24_h5ad_of_tools: squidpy_nanostring_without_pictures": r"^run: .*--section-key fov, or --section-key auto\.$",
    "26_gem_run: all": r"columns that describe spots only .*Give the table of counts",
    "29_python_api: counts in raw": r"use layer=\"raw\"",
    # the script draws new counts to compare with
    **{
        f"28_mudata_10x: {name}": r"^read: 256 of 256 spots, 40 of 40 genes, other counts$"
        for name in (
            "rna_modality",
            "gex_xy_in_mdata",
            "transcriptome_modality",
            "Spatial_modality",
            "h5mu_called_h5ad",
        )
    },
    "fixtures: cosmx": r"^info: none: first complete what is not usable$",  # 9 cells
    "fixtures: merscope": r"^info: none: first complete what is not usable$",  # 8 cells
    "fixtures: st_text": r"found none that .* shares with the sections before it",  # of different tissues
    "fixtures: visium_hd_2um": r"Choose one of these sizes: --bin-size 2\.",
    "fixtures: visium_v2_probe": r"^info: none: first complete what is not usable$",
    "19_tables: scientific_notation": r"^read: 256 of 256 spots, 40 of 40 genes, other counts$",
}
"""Cases that are right although they are refused or differ from what went in: what the answer has."""


class Seen(NamedTuple):
    """What was seen of a case."""

    case: str
    ok: bool | None
    """Whether it is right; None if it was refused."""
    text: str


class Session:
    """Stands in for what the scripts print with: keeps what was seen, by case."""

    def __init__(self, family: str) -> None:
        self.family, self.case, self.seen = family, "all", list[Seen]()
        self.tried: set[str] = set()

    def note(self, text: str, *, ok: bool | None) -> None:
        """Keep what was seen of the case."""
        self.seen.append(Seen(self.case, ok, text))

    def print(self, *words: object, **_: object) -> None:
        """Read what a script prints: the name of a case, or a comparison."""
        text = " ".join(map(str, words))
        if match := re.match(r"=+ (.*)", text):
            self.case = re.split(r"[:,;] | \(", match[1])[0]
        elif " should be " in text:
            for pair in re.findall(r"([^:|]*?) should be ([^|]*)", text):
                got, want = (list(map(float, re.findall(r"-?\d+\.?\d*(?:e[-+]?\d+)?", part))) for part in pair)
                if len(want) <= len(got):
                    self.note(text.strip(), ok=np.allclose(got[-len(want) :], want, atol=0.6))
        elif match := re.search(r"genes (?:beyond the panel|that are none): (\[.*?\])", text):
            self.note(text.strip(), ok=not ast.literal_eval(match[1]))
        elif match := re.match(r"\s*(ok|InputError) ", text):
            self.note(text.strip(), ok=True if match[1] == "ok" else None)
        elif " right: " in text:
            self.note(text.strip(), ok="right: False" not in text)

    def cli(self, *words: object, **_: object) -> int:
        """Run a command in this process; of an input that it names, try everything."""
        if words[0] == "info" or (words[0] == "run" and NO_RUNS in os.environ):
            self.everything(Path(str(words[1])))
            return 0
        status, text = command([str(word) for word in words] + (["--no-progress"] if words[0] == "run" else []))
        self.judge(status, text, str(words[0]))
        return status

    def judge(self, status: int, text: str, what: str) -> None:
        """Keep how a command ended."""
        last = (text.strip().splitlines() or [""])[-1]
        ok = {0: True, 1: None}.get(status, False)
        self.note(f"{what}: {'done' if status == 0 else last}", ok=ok)

    def read(self, path: Path, **options: Any) -> Any:
        """Read an input; get nothing if it is refused."""
        self.everything(Path(path))
        try:
            return stmmr.read(path, **options)
        except (stmmr.InputError, FileNotFoundError) as error:
            self.note(f"read: {error}", ok=None)
        except Exception:  # noqa: BLE001 - whatever else it ends with is wrong
            self.note(f"read: {traceback.format_exc(limit=-2)}", ok=False)
        return None

    def everything(self, path: Path) -> None:
        """Describe an input, and run the command that the description ends with."""
        if str(path) in self.tried:
            return
        self.tried.add(str(path))
        status, text = command(["info", str(path)])
        self.judge(status, text, "info")
        if status == 0:
            last = text.strip().splitlines()[-1].removeprefix("command").strip()
            if last.startswith("none"):
                self.note(f"info: {last}", ok=None)
                return
            if NO_RUNS in os.environ:
                return
            words = shlex.split(last)
            with tempfile.TemporaryDirectory() as folder:
                output = Path(folder) / "result"
                words[words.index("-o") + 1] = str(output)
                self.judge(*command([*words[1:], *QUICK]), "command of info")

    def same(self, got: Any, want: Any) -> None:
        """Hold counts and positions against those that went in."""
        if got is None:
            return
        extra = set(got.obs_names) - set(want.obs_names)
        spots = [name for name in want.obs_names if name in set(got.obs_names)]
        genes = [name for name in want.var_names if name in set(got.var_names)]
        parts = [f"{len(spots)} of {want.n_obs} spots", f"{len(genes)} of {want.n_vars} genes"]
        parts += [f"{len(extra)} other spots"] * bool(extra)
        parts += [f"{got.n_vars - len(genes)} other genes"] * (got.n_vars > len(genes))
        if spots and genes:
            ours, theirs = (sparse.csr_matrix(adata[spots, genes].X) for adata in (got, want))
            parts += ["other counts"] * bool((ours != theirs).nnz)
        if spots and "spatial" in got.obsm:
            ours, theirs = (np.asarray(adata[spots].obsm["spatial"])[:, :2] for adata in (got, want))
            parts += ["other positions"] * (not np.allclose(ours, theirs, atol=0.6))
        else:
            parts.append("no positions")
        whole = parts == [f"{want.n_obs} of {want.n_obs} spots", f"{want.n_vars} of {want.n_vars} genes"]
        self.note(f"read: {', '.join(parts)}", ok=whole)

    def ari(self, folder: Path, truth: "pd.Series[str]") -> None:
        """Hold domains against the simulated stripes."""
        from sklearn.metrics import adjusted_rand_score

        path = Path(folder) / "domains.csv"
        if not path.exists():
            return
        domains = pd.read_csv(path, index_col=0)
        domains.index = domains.index.astype(str)
        both = [name for name in truth.index if name in domains.index]
        column = next(name for name in domains.columns if "domain" in name)
        score = adjusted_rand_score(truth[both], domains.loc[both, column]) if both else 0
        self.note(f"domains: ARI {score:.2f} on {len(both)} spots", ok=score >= AGREE)


def command(words: list[str]) -> tuple[int, str]:
    """Run a command of stmmr in this process; get its exit status and what it printed."""
    logging.getLogger().handlers.clear()
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text), warnings.catch_warnings():
        try:
            main(words)
        except SystemExit as end:
            return int(end.code or 0), text.getvalue()
    return 0, text.getvalue()


def run_script(family: str) -> list[Seen]:
    """Run a script of cases with a session in place of its printing functions."""
    session = Session(family)
    sys.argv = [f"{family}.py"]
    sys.path.insert(0, str(CASES))
    sys.dont_write_bytecode = True
    former = types.ModuleType("stmmr._validate")  # where the scripts look for it
    former.coordinates = space.coordinates  # type: ignore[attr-defined]
    sys.modules[former.__name__] = former
    common: Any = importlib.import_module("common")
    for name in ("print", "cli", "read", "same", "ari"):
        setattr(common, name, getattr(session, name))
    try:
        runpy.run_path(str(CASES / f"{family}.py"))
    except Exception:  # noqa: BLE001
        session.note(traceback.format_exc(limit=-2), ok=False)
    finally:
        shutil.rmtree(common.HERE, ignore_errors=True)
    return session.seen


def run_fixtures() -> list[Seen]:
    """Read every folder of vendors' files with nothing else given."""
    session = Session("fixtures")
    for folder in sorted(FIXTURES.iterdir()):
        session.case = folder.name
        adata = session.read(folder)
        if adata is not None:
            session.note(f"read: {adata.n_obs} × {adata.n_vars}", ok=True)
    return session.seen


def judged(family: str, seen: list[Seen]) -> Iterator[tuple[str, str, str]]:
    """Tell of each case whether it is "read", "refused" as expected, or "wrong"; with what was seen."""
    for case in dict.fromkeys(one.case for one in seen):
        of_case = [one for one in seen if one.case == case]
        text = "; ".join(dict.fromkeys(f"{one.text}" for one in of_case if one.ok is not True))
        expected = EXPECTED.get(f"{family}: {case}")
        if expected is not None:
            was_read = any(one.ok is True and one.text.startswith("read:") for one in of_case)
            refused = not was_read and all(one.ok is None for one in of_case if one.ok is not True)
            verdict = "refused" if refused else "read"
            yield case, verdict if re.search(expected, text) else "wrong", text
        else:
            yield case, "wrong" if text else "read", text


def title(family: str) -> str:
    """Get what a script of cases is about: the first line of its documentation."""
    if family == "fixtures":
        return "folders of vendors"
    return (ast.get_docstring(ast.parse((CASES / f"{family}.py").read_text(encoding="utf-8"))) or family).strip()


def in_process(family: str) -> list[tuple[str, str, str]]:
    """Judge the cases of a script in a process of its own, as warnings, folders and modules stay changed."""
    words = [sys.executable, "-m", "benchmarks.cases", "--one", family]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
    return [ast.literal_eval(line) for line in lines] or [("all", "wrong", done.stderr[-500:])]


def everything(chosen: list[str]) -> None:
    """Go through all families, and write the page."""
    families = chosen or [*(path.stem for path in sorted(CASES.glob("[0-9]*.py"))), "fixtures"]
    table: Table = [["kind", "cases", "read", "refused", "wrong"]]
    for family in families:
        cases = in_process(family)
        for case, verdict, text in cases:
            builtins.print(f"{family}: {case}: {verdict}{': ' * bool(text)}{text}", flush=True)
        verdicts = [verdict for _, verdict, _ in cases]
        counts = (len(cases), *(verdicts.count(name) for name in ("read", "refused", "wrong")))
        table.append([title(family), *map(str, counts)])
    sums = [sum(int(row[column]) for row in table[1:]) for column in range(1, 5)]
    table.append(["all", *map(str, sums)])
    if chosen:
        builtins.print(*(" | ".join(row) for row in table), sep="\n")
    else:
        write_tables("cases", table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="NAME", help="scripts of cases; without one, all are run")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        name = chosen.one
        for result in judged(name, run_fixtures() if name == "fixtures" else run_script(name)):
            builtins.print(MARK + repr(result), flush=True)
    else:
        everything(chosen.families)
