"""The command line: its options are the dataclasses of the Python functions, whose documentation is its help."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import cyclopts
from cyclopts import Parameter

from stmmr._core.caches import prepare_command
from stmmr._core.exits import end_partly, errors_as_sentences
from stmmr._core.log import print_messages, with_options
from stmmr._core.options import option_names
from stmmr._core.version import VERSION
from stmmr.exports.options import ExportOptions, Target
from stmmr.pipeline.analyses import AnalysisOptions
from stmmr.pipeline.arguments import (
    ALL,
    COMMON,
    NAMES,
    AnalysisArguments,
    Folder,
    InfoArguments,
    Input,
    MapAnalysisArguments,
    MapArguments,
    Messages,
    Result,
    RewriteArguments,
    RunArguments,
    RunFolder,
    Sections,
    flat,
    option_names_of,
    show_panel,
    typed,
)
from stmmr.pipeline.configuring import from_file
from stmmr.pipeline.options import RunFolderOptions, RunOptions
from stmmr.pipeline.refusals import refusal
from stmmr.reproduce._options import Preset, ReproduceOptions

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr.pipeline.writing import Report

ABOUT: Final = "Spatial domains from counts, coordinates and histology."
app = cyclopts.App(
    name="stmmr",
    version=VERSION,
    help=ABOUT,
    help_flags=["--help", "-h", ALL],
    help_formatter=show_panel,
    suppress_keyboard_interrupt=False,
    config=from_file,
)
app.register_install_completion_command(help="Let the shell complete commands and options.")


ALTERNATIVE: Final = re.compile(r",? or [^.;(]*\((--[a-z-]+)[^)]*\)")
"""What messages offer with an option, besides something else."""


@flat
@dataclass(frozen=True, kw_only=True)
class ReproduceArguments(ReproduceOptions):
    """Options of a reproduction."""

    sections: tuple[str, ...] = ()
    """A section to run, such as 151507 of dlpfc, D4 of chicken-heart or the number of a field of view of cosmx-lung.
    Repeat it for more. By default those that the paper shows and that the data hold."""
    presets: tuple[Preset, ...] = ("baseline", "default", "auto", "paper")
    """A row of the table: baseline, default (with the paper's number of domains), auto (the default that chooses the
    number as well) or paper (the published model with the authors' settings for this data set). Repeat it for more."""


@flat
@dataclass(frozen=True, kw_only=True)
class ExportArguments(ExportOptions):
    """Options of an export."""


RUN, MAP, ANALYSES, MAP_ANALYSES = RunArguments(), MapArguments(), AnalysisArguments(), MapAnalysisArguments()
REPRODUCE, INFO, EXPORT, MESSAGES = ReproduceArguments(), InfoArguments(), ExportArguments(), Messages()
REWRITE = RewriteArguments()


@app.command(name="run")
def run_command(
    source: Sections,
    *,
    folder: RunFolder,
    options: RunArguments = RUN,
    analyses: AnalysisArguments = ANALYSES,
    config: Annotated[Path | None, Parameter(group=COMMON)] = None,
    messages: Messages = MESSAGES,
) -> None:
    """Find the spatial domains of a section, and write results, figures and a report to a folder.

    The genes of the domains are found as well, unless --no-genes is given or there are more than a million spots. Other
    analyses are requested by their options, or added later by `stmmr analyse`.

    Parameters
    ----------
    source
        A vendor's folder, a table of counts, .h5ad or .zarr. Several inputs, or the rows of a sample sheet (.csv with
        the columns section, path, image, …), are the sections of one run, each with its own image.
    config
        Options from a file: the run.json of an earlier run, or .json, .toml or .yaml with names and values such as
        n_domains. Options on the command line win.
    """
    from stmmr.pipeline.commands import run_to_folder

    messages.apply(threads=options.threads)
    report = _report() if folder.report else None
    failed = run_to_folder(source, folder, options, analyses, report=report, command=typed[0])
    end_partly(failed, folder.output, by_option)


@app.command(name=("analyse", "analyze"))
def analyse_command(
    result: Result,
    *,
    analyses: AnalysisArguments = ANALYSES,
    options: RewriteArguments = REWRITE,
    messages: Messages = MESSAGES,
) -> None:
    """Add analyses to an existing result.

    The folder is rewritten as a whole. After an error it is as it was.

    Parameters
    ----------
    result
        Folder that stmmr run or stmmr map wrote.
    """
    from stmmr.pipeline.commands import analyse_folder

    messages.apply(threads=options.threads)
    failed = analyse_folder(result, analyses, options, report=_report() if options.report else None)
    end_partly(failed, result, by_option)


@app.command(name="annotate")
def annotate_command(
    result: Result,
    names: Annotated[Path, Parameter(name="--names", group=COMMON)],
    *,
    domain_key: Annotated[str | None, Parameter(group=COMMON)] = None,
    options: RewriteArguments = REWRITE,
    messages: Messages = MESSAGES,
) -> None:
    """Write names, merges and notes of domains into a result, and compute again what depends on merged domains.

    The folder is rewritten as a whole. After an error it is as it was.

    Parameters
    ----------
    result
        Folder that stmmr run or stmmr map wrote.
    names
        Names as the report exports them (.json or .csv), or a table of your own with the columns domain and name.
        Domains with the same name are merged.
    domain_key
        Column of obs with the domains; by default that of the file.
    """
    from stmmr.pipeline.annotating import annotate_folder

    messages.apply(threads=options.threads)
    report = _report() if options.report else None
    failed = annotate_folder(result, names, options, domain_key=domain_key, report=report)
    end_partly(failed, result, by_option)


@app.command(name="map")
def map_command(
    source: Sections,
    *,
    model: Annotated[Path, Parameter(group=COMMON)],
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
    report = _report() if folder.report else None
    end_partly(map_to_folder(source, folder, options, analyses, model=model, report=report), folder.output, by_option)


@app.command(name="export")
def export_command(
    result: Result,
    *,
    to: Annotated[Target, Parameter(group=COMMON)],
    output: Annotated[Path | None, Parameter(name=NAMES["output"], group=COMMON)] = None,
    options: ExportArguments = EXPORT,
    messages: Messages = MESSAGES,
) -> None:
    """Write the domains of a result for another tool, with a README.txt that tells how to open them.

    Parameters
    ----------
    result
        Folder that stmmr run or stmmr map wrote, or any .h5ad or .zarr with domains (--domain-key).
    to
        Tool or format: cell groups for Xenium Explorer, categories for Loupe Browser, outlines of domains and of spots
        for QuPath, outlines as GeoJSON, a SpatialData store for napari, a view for Vitessce, or tables (csv) with a
        script for Seurat and SpatialExperiment.
    output
        Folder to write; by default beside the result, named after it and the tool.
    """
    from stmmr.exports.export import export_result

    messages.apply()
    export_result(result, output, to, options)


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
    end_partly(run_to_folder([], folder, options, AnalysisOptions(), report=_report()), output, by_option)


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
    dataset: Annotated[str, Parameter(name="--dataset", group=COMMON)],
    *,
    data: Annotated[Path, Parameter(group=COMMON)],
    output: Annotated[Path, Parameter(name=NAMES["output"], group=COMMON)] = Path("stmmr_reproduced"),
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
    from stmmr.reproduce import reproduced

    messages.apply()
    _, failed = reproduced(dataset, data, output, options)
    print((output / "table.md").read_text(encoding="utf-8"))
    end_partly(failed, output, by_option, advice="the same command carries out only what failed")


def _report() -> Report:
    """Get what writes the report of a result folder; its packages are imported when it is written."""
    from stmmr.pipeline.writing import Report

    return Report(page=_write_page, tiles=_write_tiles)


def _write_page(adata: AnnData, path: Path, **options: Any) -> None:
    from stmmr.report import write

    write(adata, path, **options)


def _write_tiles(adata: AnnData, page: Path, **image: Any) -> None:
    from stmmr.report.tiles import write_tiles

    write_tiles(adata, page, **image)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, on ``sys.argv`` by default.

    An error of the input or of an option is one sentence and exit status 1; an unexpected one names the log and ends
    with 70. If only optional parts failed, the exit status is 3.
    """
    given = sys.argv[1:] if arguments is None else arguments
    typed[0] = shlex.join(["stmmr", *given])
    for name in ("run", "map"):
        app[name].help_epilogue = "" if ALL in given else f"All options: stmmr {name} {ALL}"
    prepare_command()
    print_messages(by_option)
    with errors_as_sentences(by_option, command=typed[0]):
        try:
            app(arguments, exit_on_error=False, print_error=False)
        except cyclopts.CycloptsError as error:
            raise refusal(error, app) from error
        sys.stdout.flush()


def by_option(text: str) -> str:
    """Name options as on the command line, without the alternatives of other commands."""
    words = shlex.split(typed[0])[1:2]
    names = _names_of(words[0]) if words else frozenset()
    text = with_options(text, _options())
    return ALTERNATIVE.sub(lambda match: match[0] if not names or match[1] in names else "", text)


@cache
def _names_of(command: str) -> frozenset[str]:
    """List the options of a command; `info` tells of those of a run. Empty if there is no such command."""
    commands = {"info": ("info", "run")}.get(command, (command,))
    known = [app[name].assemble_argument_collection() for name in commands if name in {*app}]
    return frozenset(name for arguments in known for argument in arguments for name in argument.names)


@cache
def _options() -> dict[str, str]:
    """Get the option on the command line for each argument of Python."""
    commands = (RunFolder, RunArguments, MapArguments, AnalysisArguments, ReproduceArguments, ExportArguments)
    return {name: option_names_of(name)[0] for command in commands for name in option_names(command)}


if __name__ == "__main__":
    main()
