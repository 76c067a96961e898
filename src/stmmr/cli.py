"""The command line: its options are the dataclasses of the Python functions, whose documentation is its help."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import cyclopts
from cyclopts import Group, Parameter

from stmmr._core.checks import InputError
from stmmr._core.untrusted import set_max_memory
from stmmr._core.version import VERSION
from stmmr.pipeline.analyses import AnalysisOptions
from stmmr.pipeline.options import FolderOptions, MapOptions, RunFolderOptions, RunOptions
from stmmr.reproduce._options import Preset, ReproduceOptions

if TYPE_CHECKING:
    from anndata import AnnData

app = cyclopts.App(
    name="stmmr",
    version=VERSION,
    help="Spatial domains from counts, coordinates and histology.",
    suppress_keyboard_interrupt=False,
)
Flag = Parameter(negative="", show_default=False)
Repeated = Parameter(negative_iterable=())
Input = Annotated[Path, Parameter(name=["INPUT", "--input"])]
Output = Annotated[Path, Parameter(name=("--output", "-o"))]
OptionalImage = Annotated[Path | None, Parameter(name=("--image", "-i"))]
Hidden = Parameter(parse=False)
ANALYSES_GROUP = Group("Analyses", sort_key=1)
Arguments = TypeVar("Arguments")
REPORTS = "https://github.com/stmmr/stmmr-kit/issues"
UNEXPECTED = 70
"""Exit status after an error that is not one of the input."""


def flat(arguments: type[Arguments]) -> type[Arguments]:
    """Make the fields of a dataclass options of a command."""
    # types of inherited fields are names in the modules of the base classes
    arguments.__init__.__annotations__ = get_type_hints(arguments, include_extras=True)
    return Parameter(name="*")(arguments)


def _whole_number(_: object, tokens: Sequence[cyclopts.Token]) -> int | str:
    """Read a whole number or "auto"; cyclopts itself would round 3.5."""
    text = tokens[0].value
    return text if text == "auto" else int(text)


# Each class has the options of its Python function. Restated here are those that the command line takes in fewer forms.


@flat
@dataclass(frozen=True, kw_only=True)
class RunArguments(RunOptions):
    """Options of a run."""

    image: OptionalImage = None
    """H&E image. Its pixels are the units of the coordinates unless --registration is given. Also the name of an image
    of a SpatialData store. Default: the image that comes with the data, if any."""
    registration: Path | None = None
    """Affine map from coordinates to pixels of the image: a 3 × 3 matrix as CSV, or the imagealignment.csv of Xenium
    Explorer."""
    encoder: str = "he"
    """Image encoder: "he" needs no weights; otherwise a network by name or folder."""
    blocks: Annotated[list[str] | None, Parameter(name="--block", negative_iterable=())] = None
    """A further modality, as NAME=KEY or NAME=KEY:LIKELIHOOD, such as protein=protein_counts:nb: a key of obsm and a
    likelihood (nb, zinb, bernoulli, gaussian; none for image features). Repeat it for more."""
    n_domains: Annotated[int | Literal["auto"], Parameter(converter=_whole_number)] = "auto"
    """Number of domains; "auto" chooses it by `stmmr.tl.number_of_domains`."""
    in_3d: Annotated[bool, Flag] = False
    """Connect spots with those of the sections above and below as well, by obsm["spatial_3d"] (--align writes it). Not
    with the preset "paper"."""
    random_state: Annotated[int, Parameter(name=("--seed", "--random-state"))] = 0
    """Random seed."""
    save_model: Annotated[Path | None, Hidden] = None


@flat
@dataclass(frozen=True, kw_only=True)
class MapArguments(MapOptions):
    """Options of a mapping."""

    image: OptionalImage = None
    """H&E image, if the model uses one. Default: the image that comes with the data."""
    registration: Path | None = None
    """Affine map from coordinates to pixels of the image, as for stmmr run."""
    encoder: str | None = None
    """Image encoder, where the one that the model was fitted with cannot be found by its name."""


@Parameter(group=ANALYSES_GROUP)
@flat
@dataclass(frozen=True, kw_only=True)
class AnalysisArguments(AnalysisOptions):
    """Options of analyses."""

    pseudobulk: Annotated[bool, Flag] = False
    """Find the genes of each domain with sections as replicates (extra ``deseq``)."""
    gene_sets: Path | None = None
    """A local .gmt file: find the gene sets enriched among the genes of each domain."""
    trajectory: Annotated[bool, Flag] = False
    """Order the spots by pseudotime and find the genes that change along it. Without a root, it starts at the larger
    end of the longest path through the domains."""
    root_spot: Annotated[str | None, Parameter(name=("--root-spot", "--root-cell"))] = None
    """Spot or cell at which the trajectory starts."""
    enhance: Annotated[bool, Flag] = False
    """Write denoised expression as a layer, four bytes for each spot and gene (extra ``torch``)."""
    enhance_genes: Annotated[list[str] | None, Parameter(name="--enhance-gene", negative_iterable=())] = None
    """A gene to write denoised, instead of all. Repeat it for more."""


@Parameter(group=ANALYSES_GROUP)
@flat
@dataclass(frozen=True, kw_only=True)
class MapAnalysisArguments(AnalysisArguments):
    """Options of analyses of a mapped section, which has no model of its own to denoise by."""

    enhance: Annotated[bool, Hidden] = False
    enhance_genes: Annotated[list[str] | None, Hidden] = None


@flat
@dataclass(frozen=True, kw_only=True)
class RunFolder(RunFolderOptions):
    """Options about inputs and the result folder of a run."""

    output: Output
    """Folder to write the results to."""
    overwrite: Annotated[bool, Flag] = False
    """Replace an output folder of an earlier run."""
    keep_off_tissue: Annotated[bool, Flag] = False
    """Keep the spots that are off the tissue (in_tissue is 0), which are dropped otherwise."""
    spatialdata: Annotated[bool, Flag] = False
    """Write spatialdata.zarr as well, for squidpy, spatialdata-plot and napari-spatialdata (extra ``spatialdata``)."""


@flat
@dataclass(frozen=True, kw_only=True)
class Folder(FolderOptions):
    """Options about the input and the result folder of a mapping."""

    output: Output
    """Folder to write the results to."""
    overwrite: Annotated[bool, Flag] = False
    """Replace an output folder of an earlier run."""
    keep_off_tissue: Annotated[bool, Flag] = False
    """Keep the spots that are off the tissue (in_tissue is 0), which are dropped otherwise."""


@flat
@dataclass(frozen=True, kw_only=True)
class Messages:
    """Options of all commands."""

    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="", show_default=False)] = False
    """Print warnings and errors only."""
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), negative="", show_default=False)] = False
    """Print details as well."""
    max_memory: float | None = None
    """Memory in GB that reading may take; a file that needs more is refused. Default: what is free."""

    def apply(self) -> None:
        """Set the level of the messages and the limit of memory."""
        set_max_memory(self.max_memory)
        level = logging.WARNING if self.quiet else logging.DEBUG if self.verbose else logging.INFO
        logging.getLogger("stmmr").setLevel(level)


@flat
@dataclass(frozen=True, kw_only=True)
class ReproduceArguments(ReproduceOptions):
    """Options of a reproduction."""

    sections: Annotated[tuple[str, ...], Parameter(name=("--section", "--sections"), negative_iterable=())] = ()
    """A section to run, such as 151507 of dlpfc, D4 of chicken-heart or the number of a field of view of cosmx-lung.
    Repeat it for more. By default those that the paper shows and that the data hold."""
    together: Annotated[bool, Flag] = False
    """Fit one model to several sections of dlpfc instead of one to each; 151673 to 151676 if no sections are named."""
    presets: Annotated[tuple[Preset, ...], Parameter(name="--preset", negative_iterable=())] = (
        "baseline",
        "default",
        "auto",
        "paper",
    )
    """A row of the table: baseline, default (with the paper's number of domains), auto (the default that chooses the
    number as well) or paper (the published model with the authors' settings for this data set). Repeat it for more."""
    n_seeds: Annotated[int, Parameter(name="--seeds")] = 1
    """Runs of each, with the seeds 110 (the authors'), 111 and so on."""


RUN, MAP, ANALYSES, MAP_ANALYSES = RunArguments(), MapArguments(), AnalysisArguments(), MapAnalysisArguments()
REPRODUCE, MESSAGES = ReproduceArguments(), Messages()


@app.command(name="run")
def run_command(
    source: Annotated[list[Path], Parameter(name=["INPUT", "--input"], negative_iterable=())],
    *,
    folder: RunFolder,
    options: RunArguments = RUN,
    analyses: AnalysisArguments = ANALYSES,
    messages: Messages = MESSAGES,
) -> None:
    """Find the spatial domains of a section, and write results, figures and a report to a folder.

    The genes of the domains are found as well, unless --no-genes is given or there are more than 100,000 spots. Other
    analyses are requested by their options, or added later by `stmmr analyse`.

    Parameters
    ----------
    source
        A vendor's folder, a table of counts, .h5ad or .zarr. Several inputs are the sections of one run, each with its
        own image, named after files or folders.
    """
    from stmmr.pipeline.commands import run_to_folder

    messages.apply()
    run_to_folder(source, folder, options, analyses, report=_report if folder.report else None)


@app.command(name=("analyse", "analyze"))
def analyse_command(
    result: Annotated[Path, Parameter(name=["RESULT", "--result"])],
    *,
    analyses: AnalysisArguments = ANALYSES,
    report: bool = True,
    progress: bool = True,
    messages: Messages = MESSAGES,
) -> None:
    """Add analyses to an existing result.

    The folder is rewritten as a whole. After an error it is as it was.

    Parameters
    ----------
    result
        Folder that stmmr run or stmmr map wrote.
    report
        Write report.html again.
    progress
        Show progress bars.
    """
    from stmmr.pipeline.commands import analyse_folder

    messages.apply()
    analyse_folder(result, analyses, progress=progress, report=_report if report else None)


@app.command(name="map")
def map_command(
    source: Input,
    *,
    model: Path,
    folder: Folder,
    options: MapArguments = MAP,
    analyses: MapAnalysisArguments = MAP_ANALYSES,
    messages: Messages = MESSAGES,
) -> None:
    """Map a new section onto the model of an earlier run, without training, and write the same kind of folder.

    Parameters
    ----------
    source
        A vendor's folder, a table of counts, .h5ad or .zarr.
    model
        Result folder of stmmr run for another section.
    """
    from stmmr.pipeline.commands import map_to_folder

    messages.apply()
    map_to_folder(source, folder, options, analyses, model=model, report=_report if folder.report else None)


@app.command
def demo(
    *,
    output: Output = Path("stmmr_demo"),
    overwrite: Annotated[bool, Flag] = False,
    messages: Messages = MESSAGES,
) -> None:
    """Run on a simulated tissue with a drawn H&E image.

    Parameters
    ----------
    output
        Folder to write the results to.
    overwrite
        Replace the output folder of an earlier run.
    """
    from stmmr.pipeline.commands import run_to_folder

    messages.apply()
    folder = RunFolderOptions(output=output, overwrite=overwrite)
    options = RunOptions(n_domains=5, label_key="ground_truth")
    run_to_folder([], folder, options, AnalysisOptions(), report=_report)


@app.command
def info(
    source: Input,
    *,
    image: OptionalImage = None,
    registration: Path | None = None,
    um_per_pixel: float | None = None,
    bin_size: int | None = None,
    max_memory: float | None = None,
    layer: str | None = None,
    section_key: str | None = None,
    keep_off_tissue: Annotated[bool, Flag] = False,
) -> None:
    """Describe an input: what it was recognised as, what it holds, whether its image fits, and what a run would do.

    Parameters
    ----------
    source
        A vendor's folder, a table of counts, .h5ad, .h5mu or .zarr.
    image
        H&E image to check against the spots, as for stmmr run.
    registration
        Affine map from coordinates to its pixels, as for stmmr run.
    um_per_pixel
        µm per unit of the coordinates, where the data do not tell.
    bin_size
        Side of the bins, as for stmmr run.
    layer
        Layer with the raw counts, as for stmmr run.
    section_key
        Column of obs with the section of each spot, as for stmmr run.
    keep_off_tissue
        Keep the spots that are off the tissue.
    max_memory
        Memory in GB that reading may take, as for stmmr run.
    """
    from stmmr.pipeline.info import describe

    set_max_memory(max_memory)
    options = RunOptions(
        image=image, registration=registration, um_per_pixel=um_per_pixel, layer=layer, section_key=section_key
    )
    described = describe(source, options, bin_size=bin_size, keep_off_tissue=keep_off_tissue)
    print("\n".join(f"{name:<14}{text}" for name, text in described.items()))


@app.command(name="reproduce")
def reproduce_command(
    dataset: Annotated[str, Parameter(name=["DATASET", "--dataset"])],
    *,
    data: Path,
    output: Output = Path("stmmr_reproduced"),
    options: ReproduceArguments = REPRODUCE,
    messages: Messages = MESSAGES,
) -> None:
    """Run an analysis of the stMMR paper: the authors' settings, the default and the linear baseline in one table.

    Parameters
    ----------
    dataset
        dlpfc, breast-cancer, chicken-heart, mouse-brain, pdac, cosmx-lung or visium-hd.
    data
        The authors' record (10.5281/zenodo.13866898), unpacked, or a folder with .h5ad files named by section.
    output
        Folder for the table, with a row for each run, and the domains. A run that was stopped continues there.
    """
    from stmmr.reproduce import reproduce

    messages.apply()
    reproduce(dataset, data, output, options)
    print((output / "table.md").read_text(encoding="utf-8"))


def _report(adata: AnnData, path: Path, facts: dict[str, Any]) -> None:
    """Write the report of a result folder."""
    from stmmr import report

    report.write(adata, path, run_facts=facts)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, on ``sys.argv`` by default.

    An error of the input is one sentence and exit status 1; an unexpected one names the log and ends with 70.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # µ and × on a terminal without them
            stream.reconfigure(errors="replace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # our own message about a damaged file says less, better
    try:
        app(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has ended, as in stmmr info … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # 128 and the number of the signal, as shells count
    except KeyboardInterrupt:
        print("stmmr: interrupted. The same command continues after the last finished step.", file=sys.stderr)
        sys.exit(130)
    except (InputError, ImportError, FloatingPointError, OSError, MemoryError) as error:
        print("\n".join([f"stmmr: {_sentence(error)}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        print(f"stmmr: {_unexpected(error, arguments)}", file=sys.stderr)
        sys.exit(UNEXPECTED)


def _unexpected(error: Exception, arguments: list[str] | None) -> str:
    """Write the traceback of an unexpected error to a log, and say where it is and how to report it."""
    from stmmr._core.version import versions

    file, path = tempfile.mkstemp(prefix="stmmr-error-", suffix=".log")
    facts = f"stmmr {' '.join(sys.argv[1:] if arguments is None else arguments)}\n{versions()}\n"
    with open(file, "w", encoding="utf-8", errors="replace") as log:  # noqa: PTH123 - it is open already
        log.write(facts + "".join(traceback.format_exception(error)))
    reason = (str(error).splitlines() or [""])[0][:200]
    return (
        f"an error that stmmr does not expect ({type(error).__name__}: {reason}). The details are in {path}; please "
        f"report it with this file at {REPORTS}."
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return (
            "Expected enough memory, found too little. Leave the counts on disk (--mode disk, for .h5ad and .zarr), or "
            "use a machine with more memory."
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return (
            "Expected room for the results, found the disk or your quota full. Free some space or choose another "
            "--output; an earlier result there is as it was."
        )
    return str(error)


if __name__ == "__main__":
    main()
