"""Compare the tables of default runs before and after a change that must not change them.

``python -m benchmarks.unchanged before/`` runs the eight labelled files, a whole CytAssist section and the demo, and
keeps their tables. ``python -m benchmarks.unchanged after/ --against before/`` runs them again and says which
tables differ. ``--source`` takes the package from another folder, such as the ``src`` of an earlier checkout.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from joblib import Parallel, delayed

SHARED = Path(os.environ.get("STMMR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
LABELLED = {
    "osmfish_cortex": (),
    "st_her2_A1": (),
    "st_human_heart_9sections": ("--section-key", "image"),
    "st_pdac_A": (),
    "starmap_mpfc_BZ5": (),
    "starmap_mpfc_BZ9": (),
    "visium_dlpfc_151673": ("--size-key", "sum_umi_full", "--trajectory"),
    "visium_dlpfc_151674": ("--size-key", "sum_umi_full"),
}


def commands():
    """Get the arguments of each run, without its output."""
    files = {name: ["run", str(SHARED / "data" / f"{name}.h5ad"), *more] for name, more in LABELLED.items()}
    return files | {
        "visium_cytassist_whole": ["run", str(SHARED / "fixtures" / "visium_cytassist_whole")],
        "demo": ["demo"],
    }


def tables(name, arguments, folder, source):
    """Run, and keep the tables of the result."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(source)} if source else {})
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "out"
        command = [sys.executable, "-m", "stmmr.cli", *arguments, "--output", str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=work)
        if done.returncode:
            return f"{name}: exit status {done.returncode}: {done.stderr[-500:]}"
        kept = folder / name
        kept.mkdir(parents=True, exist_ok=True)
        for path in out.glob("*.csv"):
            (kept / path.name).write_bytes(path.read_bytes())
    return f"{name}: {len(list(kept.iterdir()))} tables"


def compare(before, after):
    """Tell of each table whether it is the same, byte by byte; a renamed column changes the header only."""
    for path in sorted(before.glob("*/*.csv")):
        other = after / path.relative_to(before)
        if not other.exists():
            state = "MISSING"
        else:
            (header, old), (new_header, new) = (file.read_bytes().split(b"\n", 1) for file in (path, other))
            state = "DIFFERS" if old != new else "same" if header == new_header else "same, other header"
        yield state.startswith("same"), f"{state:<20}{path.relative_to(before)}"


def main():
    """Run all, then compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    runs = {name: arguments for name, arguments in commands().items() if not options.only or name in options.only}
    jobs = (delayed(tables)(name, arguments, options.folder, options.source) for name, arguments in runs.items())
    print(*Parallel(n_jobs=2, backend="threading")(jobs), sep="\n")
    if options.against:
        compared = [
            each for each in compare(options.against, options.folder) if not options.only or named(each, options)
        ]
        print(*(line for _, line in compared), sep="\n")
        sys.exit(not all(same for same, _ in compared))


def named(compared, options):
    """Tell whether a comparison is of one of the runs that were chosen."""
    return compared[1].split()[-1].split("/")[0] in options.only


if __name__ == "__main__":
    main()
