"""The command line: its options are the dataclasses of the Python functions, whose documentation is its help."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_type_hints

import cyclopts
from cyclopts import Group, Parameter

from stmmr._core.caches import prepare_command
from stmmr._core.checks import InputError
from stmmr._core.exits import end_partly, errors_as_sentences
from stmmr._core.log import print_messages, with_options
from stmmr._core.options import option_names
from stmmr._core.parallel import limit_threads
from stmmr._core.untrusted import set_max_memory
from stmmr._core.version import VERSION
from stmmr.pipeline.analyses import AnalysisOptions
from stmmr.pipeline.options import FolderOptions, MapOptions, RunFolderOptions, RunOptions
from stmmr.reproduce._options import Preset, ReproduceOptions

ABOUT: Final = "Spatial domains from counts, coordinates and histology."
app = cyclopts.App(name="stmmr", version=VERSION, help=ABOUT, suppress_keyboard_interrupt=False)
Input = Annotated[Path, Parameter(name=["INPUT", "--input"])]
Sections = Annotated[list[Path], Parameter(name=["INPUT", "--input"], negative_iterable=())]
Hidden = Parameter(parse=False)
ANALYSES_GROUP = Group("Analyses", sort_key=1)
Arguments = TypeVar("Arguments")


def _whole_number(_: object, tokens: Sequence[cyclopts.Token]) -> int | str:
    """Read a whole number or "auto"; cyclopts itself would round 3.5."""
    text = tokens[0].value
    return text if text == "auto" else int(text)


NAMES: Final = {
    "output": ("--output", "-o"),
    "image": ("--image", "-i"),
    "blocks": ("--block",),
    "random_state": ("--seed", "--random-state"),
    "root_spot": ("--root-spot", "--root-cell"),
    "enhance_genes": ("--enhance-gene",),
    "quiet": ("--quiet", "-q"),
    "verbose": ("--verbose", "-v"),
    "sections": ("--section", "--sections"),
    "presets": ("--preset",),
    "n_seeds": ("--seeds",),
}
"""Names of options that are not called as the argument of Python."""
TYPES: Final[dict[str, Any]] = {
    "image": Path | None,
    "registration": Path | None,
    "gene_sets": Path | None,
    "encoder": str | None,
    "n_domains": Annotated[int | Literal["auto"], Parameter(converter=_whole_number)],
    "blocks": list[str] | None,
    "enhance_genes": list[str] | None,
    "sections": tuple[str, ...],
    "presets": tuple[Preset, ...],
}
"""Types of options that Python takes in more forms than the command line."""


def option_names_of(name: str) -> tuple[str, ...]:
    """Get the names of an option on the command line."""
    return NAMES.get(name, (f"--{name.replace('_', '-')}",))


def flat(arguments: type[Arguments]) -> type[Arguments]:
    """Make the fields of a dataclass options of a command."""
    hints = get_type_hints(arguments, include_extras=True)
    for field in fields(arguments):  # type: ignore[arg-type]  # a dataclass
        hint = hints[field.name]
        if Hidden not in getattr(hint, "__metadata__", ()):
            look: dict[str, Any] = {"negative_iterable": ()}
            if field.default is False:
                look = {"negative": "", "show_default": False}
            look["name"] = option_names_of(field.name)
            hints[field.name] = Annotated[TYPES.get(field.name, hint), Parameter(**look)]
    arguments.__annotations__ = arguments.__init__.__annotations__ = hints
    return Parameter(name="*")(arguments)


# Each class has the options of its Python function. Restated here are those with another description.


@flat
@dataclass(frozen=True, kw_only=True)
class RunArguments(RunOptions):
    """Options of a run."""

    image: Any = None
    """H&E image. Its pixels are the units of the coordinates unless --registration is given. Also the name of an image
    of a SpatialData store. Default: the image that comes with the data, if any."""
    blocks: Any = None
    """A further modality, as NAME=KEY or NAME=KEY:LIKELIHOOD, such as protein=protein_counts:nb: a key of obsm and a
    likelihood (nb, zinb, bernoulli, gaussian; none for image features). Repeat it for more."""
    in_3d: bool = False
    """Connect spots with those of the sections above and below as well, by obsm["spatial_3d"] (--align writes it). Not
    with the preset "paper"."""
    save_model: Annotated[Path | None, Hidden] = None


@flat
@dataclass(frozen=True, kw_only=True)
class MapArguments(MapOptions):
    """Options of a mapping."""

    image: Any = None
    """H&E image, if the model uses one. Default: the image that comes with the data."""


@Parameter(group=ANALYSES_GROUP)
@flat
@dataclass(frozen=True, kw_only=True)
class AnalysisArguments(AnalysisOptions):
    """Options of analyses."""

    enhance_genes: Any = None
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


@flat
@dataclass(frozen=True, kw_only=True)
class Folder(FolderOptions):
    """Options about the input and the result folder of a mapping."""


@flat
@dataclass(frozen=True, kw_only=True)
class InfoArguments:
    """Options of a description."""

    image: Any = None
    """H&E image to check against the spots, as for stmmr run."""
    registration: Any = None
    """Affine map from coordinates to its pixels, as for stmmr run."""
    um_per_pixel: float | None = None
    """µm per unit of the coordinates, where the data do not tell."""
    bin_size: int | None = None
    """Side of the bins, as for stmmr run."""
    layer: str | None = None
    """Layer with the raw counts, as for stmmr run."""
    section_key: str | None = None
    """Column of obs with the section of each spot, as for stmmr run."""
    keep_off_tissue: bool = False
    """Keep the spots that are off the tissue."""


@flat
@dataclass(frozen=True, kw_only=True)
class Messages:
    """Options of all commands."""

    quiet: bool = False
    """Print warnings and errors only."""
    verbose: bool = False
    """Print details as well."""
    max_memory: float | None = None
    """Memory in GB that reading may take; a file that needs more is refused. Default: what is free."""

    def apply(self, *, threads: int | None = None) -> None:
        """Set the level of the messages, the limit of memory and the number of threads."""
        limit_threads(threads)
        set_max_memory(self.max_memory)
        if self.quiet and self.verbose:
            raise InputError("Expected --quiet or --verbose, found both. Leave one out.")
        logging.getLogger("stmmr").setLevel("WARNING" if self.quiet else "DEBUG" if self.verbose else "INFO")


@flat
@dataclass(frozen=True, kw_only=True)
class ReproduceArguments(ReproduceOptions):
    """Options of a reproduction."""

    sections: Any = ()
    """A section to run, such as 151507 of dlpfc, D4 of chicken-heart or the number of a field of view of cosmx-lung.
    Repeat it for more. By default those that the paper shows and that the data hold."""
    presets: Any = ("baseline", "default", "auto", "paper")
    """A row of the table: baseline, default (with the paper's number of domains), auto (the default that chooses the
    number as well) or paper (the published model with the authors' settings for this data set). Repeat it for more."""


RUN, MAP, ANALYSES, MAP_ANALYSES = RunArguments(), MapArguments(), AnalysisArguments(), MapAnalysisArguments()
REPRODUCE, INFO, MESSAGES = ReproduceArguments(), InfoArguments(), Messages()


@app.command(name="run")
def run_command(
    source: Sections,
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
        A vendor's folder, a table of counts, .h5ad or .zarr. Several inputs, or the rows of a sample sheet (.csv with
        the columns section, path, image, …), are the sections of one run, each with its own image.
    """
    from stmmr.pipeline.commands import run_to_folder

    messages.apply(threads=options.threads)
    failed = run_to_folder(source, folder, options, analyses, report=_report if folder.report else None)
    end_partly(failed, folder.output, by_option)


@app.command(name=("analyse", "analyze"))
def analyse_command(
    result: Annotated[Path, Parameter(name=["RESULT", "--result"])],
    *,
    analyses: AnalysisArguments = ANALYSES,
    report: bool = True,
    threads: int | None = None,
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
    threads
        Largest number of threads; by default one for each available core.
    progress
        Show progress bars.
    """
    from stmmr.pipeline.commands import analyse_folder

    messages.apply(threads=threads)
    failed = analyse_folder(result, analyses, progress=progress, report=_report if report else None)
    end_partly(failed, result, by_option)


@app.command(name="map")
def map_command(
    source: Sections,
    *,
    model: Path,
    folder: Folder,
    options: MapArguments = MAP,
    analyses: MapAnalysisArguments = MAP_ANALYSES,
    messages: Messages = MESSAGES,
) -> None:
    """Map new sections onto the model of an earlier run, without training, and write the same kind of folder.

    Parameters
    ----------
    source
        A vendor's folder, a table of counts, .h5ad or .zarr; several, or a sample sheet, as for stmmr run.
    model
        Result folder of stmmr run for another section.
    """
    from stmmr.pipeline.commands import map_to_folder

    messages.apply(threads=options.threads)
    report = _report if folder.report else None
    end_partly(map_to_folder(source, folder, options, analyses, model=model, report=report), folder.output, by_option)


@app.command
def demo(
    *,
    output: Annotated[Path, Parameter(name=NAMES["output"])] = Path("stmmr_demo"),
    overwrite: Annotated[bool, Parameter(negative="", show_default=False)] = False,
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
    end_partly(run_to_folder([], folder, options, AnalysisOptions(), report=_report), output, by_option)


@app.command
def info(source: Input, *, options: InfoArguments = INFO, messages: Messages = MESSAGES) -> None:
    """Describe an input: what it was recognised as, what it holds, whether its image fits, and what a run would do.

    Parameters
    ----------
    source
        A vendor's folder, a table of counts, .h5ad, .h5mu or .zarr.
    """
    from stmmr.pipeline.info import describe

    messages.apply()
    of_run = {name: getattr(options, name) for name in option_names(RunOptions) if hasattr(options, name)}
    described = describe(
        source, RunOptions(**of_run), bin_size=options.bin_size, keep_off_tissue=options.keep_off_tissue
    )
    print("\n".join(f"{name:<14}{text}" for name, text in described.items()))


@app.command(name="reproduce")
def reproduce_command(
    dataset: Annotated[str, Parameter(name=["DATASET", "--dataset"])],
    *,
    data: Path,
    output: Annotated[Path, Parameter(name=NAMES["output"])] = Path("stmmr_reproduced"),
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


def _report(adata: Any, path: Path, facts: dict[str, Any]) -> None:
    """Write the report of a result folder."""
    from stmmr import report

    report.write(adata, path, run_facts=facts)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, on ``sys.argv`` by default.

    An error of the input is one sentence and exit status 1; an unexpected one names the log and ends with 70. If only
    optional parts failed, the exit status is 3.
    """
    prepare_command()
    print_messages(by_option)
    with errors_as_sentences(by_option, command=f"stmmr {' '.join(arguments or sys.argv[1:])}"):
        app(arguments)
        sys.stdout.flush()


def by_option(text: str) -> str:
    """Name options as on the command line."""
    return with_options(text, _options())


@cache
def _options() -> dict[str, str]:
    """Get the option on the command line for each argument of Python."""
    commands = (RunFolder, RunArguments, MapArguments, AnalysisArguments, ReproduceArguments)
    return {name: option_names_of(name)[0] for command in commands for name in option_names(command)}


if __name__ == "__main__":
    main()
