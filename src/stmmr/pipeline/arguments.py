"""The options of the commands: the dataclasses of the Python functions, whose documentation is the help."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_type_hints

import cyclopts
from cyclopts import Group, Parameter

from stmmr._core.checks import InputError
from stmmr._core.options import option_names
from stmmr._core.parallel import limit_threads
from stmmr._core.untrusted import set_max_memory
from stmmr.pipeline.analyses import AnalysisOptions
from stmmr.pipeline.options import FolderOptions, MapOptions, RewriteOptions, RunFolderOptions, RunOptions

Hidden = Parameter(parse=False)
ALL: Final = "--help-all"
typed = [""]
"""The command as it was typed."""
COMMON = Group("Most used options", sort_key=0)
GROUPS: Final = {
    Group("Analyses", sort_key=1): frozenset(option_names(AnalysisOptions)),
    Group("Input and image", sort_key=2): frozenset(
        {"registration", "um_per_pixel", "cache", "layer", "size_key", "table", "coordinate_system", "bin_size"}
        | {"keep_off_tissue", "mode", "align", "histology", "encoder", "stain", "blocks", "use_rep", "max_memory"}
        | {"boundaries", "skip_broken"}
    ),
    Group("Model", sort_key=3): frozenset({"method", "preset", "in_3d"}),
    Group("Result and messages", sort_key=4): frozenset(
        {"report", "report_image", "spatialdata", "figure_format", "figure_width", "progress", "quiet", "verbose"}
    ),
    Group("Computing", sort_key=5): frozenset(
        {"checkpoint", "devices", "num_nodes", "accelerator", "precision", "threads", "scheduler"}
    ),
}
"""Groups of options in the help. All other options are in the first one, `COMMON`."""
MOST_USED: Final = frozenset({"genes", "trajectory", "root_domain", "domain_key"})
"""Options of analyses that are in the first group."""
Input = Annotated[Path, Parameter(name="--input", group=COMMON)]
Sections = Annotated[list[Path], Parameter(name="--input", negative_iterable=(), group=COMMON)]
Result = Annotated[Path, Parameter(name="--result", group=COMMON)]
Arguments = TypeVar("Arguments")


def _whole_number(_: object, tokens: Sequence[cyclopts.Token]) -> int | str:
    """Read a whole number or "auto"; cyclopts itself would round 3.5."""
    text = tokens[0].value
    return text if text == "auto" else int(text)


NAMES: Final = {
    "output": ("--output", "-o"),
    "image": ("--image", "-i"),
    "blocks": ("--block",),
    "covariates": ("--covariate",),
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
    "checkpoint": Path | None,
    "encoder": str | None,
    "n_domains": Annotated[int | Literal["auto"], Parameter(converter=_whole_number)],
    "blocks": list[str] | None,
    "enhance_genes": list[str] | None,
    "covariates": list[str] | None,
}
"""Types of options that Python takes in more forms than the command line."""


def option_names_of(name: str) -> tuple[str, ...]:
    """Get the names of an option on the command line."""
    return NAMES.get(name, (f"--{name.replace('_', '-')}",))


def group_of(name: str) -> Group:
    """Get the group of an option in the help."""
    return next((group for group, names in GROUPS.items() if name in names - MOST_USED), COMMON)


def show_panel(console: Any, options: Any, panel: Any) -> None:
    """Show a group of options in the help; of the longest commands only the first, unless all are requested."""
    from cyclopts.help.formatters.default import DefaultFormatter

    arguments = shlex.split(typed[0])
    long_command = bool({"run", "map"} & set(arguments[1:2]))
    hidden = {group.name for group in GROUPS}
    if not (long_command and str(panel.title) in hidden and ALL not in arguments):
        DefaultFormatter()(console, options, panel)


def flat(arguments: type[Arguments]) -> type[Arguments]:
    """Make the fields of a dataclass options of a command."""
    hints = get_type_hints(arguments, include_extras=True)
    for field in fields(arguments):  # type: ignore[arg-type]  # a dataclass
        hint = hints[field.name]
        if Hidden not in getattr(hint, "__metadata__", ()):
            look: dict[str, Any] = {"negative_iterable": ()}
            if field.default is False:
                look = {"show_default": False}
            elif isinstance(field.default, tuple):
                look["show_default"] = ", ".join if field.default else False
            if field.name in ("quiet", "verbose"):
                look["negative"] = ""
            if int in (hint, *get_args(hint)):
                look["converter"] = _whole_number
            look["name"] = option_names_of(field.name)
            look["group"] = group_of(field.name)
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
    checkpoint: Any = None
    """Folder for finished steps, in place of the hidden one beside the output. After a kill, the same command continues
    from there. The folder stays after the run: delete it yourself."""
    save_model: Annotated[Path | None, Hidden] = None


@flat
@dataclass(frozen=True, kw_only=True)
class MapArguments(MapOptions):
    """Options of a mapping."""

    image: Any = None
    """H&E image, if the model uses one. Default: the image that comes with the data."""


@flat
@dataclass(frozen=True, kw_only=True)
class AnalysisArguments(AnalysisOptions):
    """Options of analyses."""

    enhance_genes: Any = None
    """A gene to write denoised, instead of all. Repeat it for more."""


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
class RewriteArguments(RewriteOptions):
    """Options of the commands that change a result."""


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
