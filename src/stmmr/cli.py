"""The command line: a thin shell around the Python functions, whose signatures and docstrings are its options."""

from __future__ import annotations

import errno
import inspect
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter

from stmmr._core.checks import InputError
from stmmr._core.version import VERSION
from stmmr.pipeline.analyses import analyse
from stmmr.pipeline.asked import Analyses
from stmmr.pipeline.mapping import map_section
from stmmr.pipeline.run import run as run_steps
from stmmr.reproduce import reproduce
from stmmr.settings import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

app = cyclopts.App(name="stmmr", version=VERSION, help="Spatial domains from counts, coordinates and histology.")
OPTION_NAMES = {
    "blocks": ("--block",),
    "enhance_genes": ("--enhance-gene",),
    "image": ("--image", "-i"),
    "n_seeds": ("--seeds",),
    "presets": ("--preset",),
    "random_state": ("--seed", "--random-state"),
    "sections": ("--section", "--sections"),
}
OPTION_TYPES: dict[str, Any] = {
    "blocks": list[str] | None,
    "encoder": str,
    "enhance_genes": list[str] | None,
    "gene_sets": Path | None,
    "image": Path | None,
    "registration": Path | None,
}
"""What an option is given as, where a function takes other things too."""
OPTION_TEXTS = {
    "blocks": "A further kind of measurement, as NAME=KEY or NAME=KEY:LIKELIHOOD, such as protein=protein_counts:nb: a "
    "key of obsm and what its values are (nb, zinb, bernoulli, gaussian; none for features of a picture). Repeat it "
    "for more.",
    "enhance_genes": "A gene to write denoised, instead of all. Repeat it for more.",
}
ANALYSES = cyclopts.Group("Analyses", sort_key=1)
NOT_OPTIONS = {"model", "save_model"}
"""What the commands take care of themselves: the model is among the results."""


def with_options_of(*functions: Callable[..., Any], without: Collection[str] = ()) -> Callable[..., Any]:
    """Give a command the keyword options of Python functions: names, types, defaults and help."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        for function in functions:
            known = {p.name for p in kept} | NOT_OPTIONS | set(without)
            kept += [option for option in _options_of(function) if option.name not in known]
        command.__signature__ = own.replace(parameters=kept)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in kept}
        return command

    return decorate


def _options_of(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """Turn the keyword parameters of a function into options of a command."""
    hints = inspect.get_annotations(function, eval_str=False)
    texts = _parameter_texts(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name in NOT_OPTIONS:
            continue
        annotation = OPTION_TYPES.get(parameter.name)
        if parameter.name not in OPTION_TYPES:
            annotation = eval(hints[parameter.name], function.__globals__)  # noqa: S307 - our own annotations
        group: dict[str, Any] = {"group": ANALYSES} if parameter.name in Analyses.names() else {}
        shown = Parameter(
            name=OPTION_NAMES.get(parameter.name),
            help=OPTION_TEXTS.get(parameter.name, texts.get(parameter.name)),
            negative_iterable=(),
            negative="" if parameter.default is False else None,  # there is nothing to take back
            **group,
        )
        yield parameter.replace(annotation=Annotated[annotation, shown])


def _asked(options: dict[str, Any]) -> Analyses:
    """Take what is said of analyses out of the options of a command."""
    return Analyses(**{name: options.pop(name) for name in Analyses.names() if name in options})


def _parameter_texts(function: Callable[..., Any]) -> dict[str, str]:
    from docstring_parser import parse

    return {p.arg_name: (p.description or "").replace("\n", " ") for p in parse(function.__doc__ or "").params}


@app.command(name="run")
@with_options_of(run_steps, analyse)
def run_command(
    source: Annotated[list[Path], Parameter(name=["INPUT", "--input"], negative_iterable=())],
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    bin_size: int | None = None,
    align: float | None = None,
    mode: Mode = "auto",
    spatialdata: Annotated[bool, Parameter(negative="")] = False,
    report: bool = True,
    **options: Any,
) -> None:
    """Find the spatial domains of a section and write data, tables, settings and figures.

    What is asked of the domains besides is written as well; `stmmr analyse` adds it later. Their genes are found
    unless --no-genes is given, or there are more than 100,000 places.

    Parameters
    ----------
    source
        A vendor's folder, a table of counts, .h5ad or .zarr; several are the sections of one run, each with its own
        picture, named after files or folders.
    output
        Folder for result.h5ad, domains.csv, run.json and figures.
    overwrite
        Replace an output folder of an earlier run.
    bin_size
        Side of the bins: Visium HD in µm, Stereo-seq in spots of the chip.
    align
        Distance of neighbouring sections in µm: aligns and stacks them, in the order given, so that places have
        neighbours in the sections above and below as well (extra ``integration``).
    mode
        Where the counts are while it runs: in "memory", on "disk" (.h5ad and .zarr, read a chunk at a time), or "auto".
    spatialdata
        Write spatialdata.zarr as well, for squidpy, spatialdata-plot and napari-spatialdata.
    report
        Write report.html, one page about the run to send to others.
    """
    from stmmr.pipeline.output import run_to_folder

    run_to_folder(
        source,
        output,
        overwrite=overwrite,
        bin_size=bin_size,
        mode=mode,
        spatialdata=spatialdata,
        report=report,
        analyses=_asked(options),
        align_um=align,
        options=options,
    )


@app.command(name=("analyse", "analyze"))
@with_options_of(analyse)
def analyse_command(
    result: Annotated[Path, Parameter(name=["RESULT", "--result"])], *, report: bool = True, **options: Any
) -> None:
    """Ask more of the domains that a run has found, and add the answers to its folder.

    The folder is rewritten as a whole, or is as it was.

    Parameters
    ----------
    result
        Folder that stmmr run or stmmr map wrote.
    report
        Write report.html anew.
    """
    from stmmr.pipeline.reanalyse import analyse_folder

    progress = options.pop("progress", True)
    analyse_folder(result, _asked(options), report=report, progress=progress)


@app.command(name="map")
@with_options_of(map_section, analyse, without=("enhance", "enhance_genes"))
def map_command(
    source: Annotated[Path, Parameter(name=["INPUT", "--input"])],
    *,
    model: Path,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    bin_size: int | None = None,
    mode: Mode = "auto",
    report: bool = True,
    **options: Any,
) -> None:
    """Map a new section onto a trained model, without training, and write the same kind of folder.

    Parameters
    ----------
    source
        A vendor's folder, a table of counts, .h5ad or .zarr.
    model
        Folder that stmmr run wrote for another section.
    output
        Folder for the results.
    overwrite
        Replace an output folder of an earlier run.
    bin_size
        Side of the bins: Visium HD in µm, Stereo-seq in spots of the chip.
    mode
        Where the counts are while it runs: in "memory", on "disk" (.h5ad and .zarr, read a chunk at a time), or "auto".
    report
        Write report.html, one page about the section to send to others.
    """
    from stmmr.pipeline.mapping import map_to_folder

    analyses = _asked(options)
    map_to_folder(
        source,
        output,
        result=model,
        overwrite=overwrite,
        bin_size=bin_size,
        mode=mode,
        report=report,
        analyses=analyses,
        options=options,
    )


@app.command
def demo(
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("stmmr_demo"),
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Run on a simulated tissue with a drawn H&E picture.

    Parameters
    ----------
    output
        Folder for the results.
    overwrite
        Replace the output folder of an earlier run.
    """
    from stmmr.pipeline.output import run_to_folder

    run_to_folder(None, output, overwrite=overwrite, options={"n_domains": 5, "label_key": "ground_truth"})


@app.command
def info(
    source: Annotated[Path, Parameter(name=["INPUT", "--input"])],
    *,
    image: Annotated[Path | None, Parameter(name=("--image", "-i"))] = None,
    registration: Path | None = None,
    um_per_pixel: float | None = None,
    bin_size: int | None = None,
) -> None:
    """Say what an input was recognised as, what it holds, whether its picture fits, and what a run would do.

    Parameters
    ----------
    source
        A vendor's folder, a table of counts, .h5ad, .h5mu or .zarr.
    image
        H&E picture to check against the places, as for the run.
    registration
        Affine map from coordinates to its pixels, as for the run.
    um_per_pixel
        µm per unit of the coordinates, where the data do not tell.
    bin_size
        Visium HD: side of the bins in µm.
    """
    from stmmr.pipeline.info import describe

    said = describe(source, image=image, registration=registration, um_per_pixel=um_per_pixel, bin_size=bin_size)
    print("\n".join(f"{name:<14}{value}" for name, value in said.items()))


@app.command(name="reproduce")
@with_options_of(reproduce)
def reproduce_command(
    dataset: Annotated[str, Parameter(name=["DATASET", "--dataset"])],
    *,
    data: Path,
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("stmmr_reproduced"),
    **options: Any,
) -> None:
    """Run an analysis of the stMMR paper: its authors' settings, the default and the linear baseline in one table.

    Parameters
    ----------
    dataset
        dlpfc, breast-cancer, chicken-heart, mouse-brain, pdac, cosmx-lung or visium-hd.
    data
        The authors' record (10.5281/zenodo.13866898), unpacked, or a folder with .h5ad files named by section.
    output
        Folder for the table, a row for each run, and the domains. A run that was stopped goes on there.
    """
    reproduce(dataset, data, output, **options)
    print((output / "table.md").read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, on ``sys.argv`` by default; an error of the input is one sentence and exit status 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("matplotlib", "numba", "fontTools", "ome_zarr"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # of a damaged file it says more than our sentence
    try:
        app(arguments)
    except (InputError, ImportError, FloatingPointError, OSError) as error:
        print("\n".join([f"stmmr: {_sentence(error)}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        sys.exit(1)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return (
            "Expected room for the results, found the disk or your quota full. Free some space or choose another "
            "--output; what an earlier run wrote is as it was."
        )
    return str(error)


if __name__ == "__main__":
    main()
