"""Arguments of public functions: options as dataclasses, shown in signatures and help, and the ranges of numbers."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from stmmr._core.checks import InputError, did_you_mean

Options = TypeVar("Options")
Function = TypeVar("Function", bound=Callable[..., Any])
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
SEEDS: Final = 2**32
"""Number of random seeds."""


class Range(NamedTuple):
    """Values that an argument may have."""

    text: str
    kind: type
    holds: Callable[[Any], bool]


def _is_color_map(value: Any) -> bool:
    """Tell whether matplotlib has a colour map of this name, or takes the value as one."""
    import matplotlib as mpl

    return value in mpl.colormaps if isinstance(value, str) else isinstance(value, mpl.colors.Colormap)


COUNT: Final = Range("a positive whole number", Integral, lambda value: value >= 1)
NATURAL: Final = Range("a whole number of at least 0", Integral, lambda value: value >= 0)
SEED: Final = Range(f"a whole number from 0 to {SEEDS - 1}", Integral, lambda value: 0 <= value < SEEDS)
FINITE: Final = Range("a finite number", Real, math.isfinite)
POSITIVE: Final = Range("a positive number", Real, lambda value: 0 < value < math.inf)
NOT_NEGATIVE: Final = Range("a number of at least 0", Real, lambda value: 0 <= value < math.inf)
FRACTION: Final = Range("a number from 0 to 1", Real, lambda value: 0 <= value <= 1)
INSIDE: Final = Range("a number between 0 and 1", Real, lambda value: 0 < value < 1)
NAME: Final = Range("a name", str, bool)
SWITCH: Final = Range("True or False", object, lambda value: str(value) in ("True", "False"))

RANGES: Final = {
    **dict.fromkeys(("n_domains", "n_partitions", "n_neighbors", "n_components", "n_top_genes", "n_init"), COUNT),
    **dict.fromkeys(
        ("at_most", "n_genes", "n_sets", "min_set", "max_set", "n_knots", "n_rows", "n_cols", "bin_size"),
        COUNT,
    ),
    **dict.fromkeys(
        ("n_seeds", "n_permutations", "ncols", "epochs", "width", "devices", "num_nodes", "threads"), COUNT
    ),
    **dict.fromkeys(("min_spots", "min_counts", "histology.n_components"), NATURAL),
    **dict.fromkeys(("um_per_pixel", "um_per_unit", "image_scale", "bandwidth", "resolution", "reach"), POSITIVE),
    **dict.fromkeys(("min_contact", "min_share_ratio", "threshold"), NOT_NEGATIVE),
    # settings of the model
    **dict.fromkeys(("hidden", "latent", "steps", "batch_size", "landmarks"), NATURAL),
    **dict.fromkeys(("expression_weight", "histology_weight", "aligned_weight", "weight_decay"), NOT_NEGATIVE),
    **dict.fromkeys(("likelihood_loss", "contrast_loss", "graph_loss"), NOT_NEGATIVE),
    "decoder_hidden": COUNT,
    "dropout": Range("a number from 0 to less than 1", Real, lambda value: 0 <= value < 1),
    "learning_rate": POSITIVE,
    **dict.fromkeys(("max_pval_adj", "min_share", "alpha"), FRACTION),
    **dict.fromkeys(("vmin", "vmax"), FINITE),
    "cmap": Range("a colour map of matplotlib, such as 'viridis'", object, _is_color_map),
    **dict.fromkeys(("confidence", "tolerance"), INSIDE),
    "random_state": SEED,
    "min_fold_change": POSITIVE,
    "domain_genes_pseudobulk.min_spots": COUNT,
}
"""Range of each numeric argument, by its name, or by function and name where one function differs from the others."""
NAMES: Final = {"key", "layer", "basis", "color", "library_id"}
"""Arguments that are keys of an AnnData, beside those that end with _key, _rep or key_added."""
OBJECTS: Final = {
    **dict.fromkeys(("adata", "reference"), ("obsm", "an AnnData")),
    "model": ("adata", "a model (stmmr.StMMR)"),
    "ax": ("get_figure", "axes of matplotlib"),
}
"""Attribute that an argument must have, and what it is then, by its name."""
DESCRIPTIONS: Final = {
    "ax": "Axes to draw on; a new figure if None.",
    "cmap": "Colour map of matplotlib.",
    "domain_key": "Column of ``obs`` with the domains.",
    "key": "Key of ``uns`` with the table.",
    "progress": "Show progress bars for steps that take longer than two seconds.",
    "section_key": "Column of ``obs`` with the section of each spot.",
}
"""Documentation of arguments that a docstring leaves out, by their names."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Options whose numbers are in their ranges."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for field in fields(self):
            check_argument(field.name, getattr(self, field.name), default=field.default, annotation=str(field.type))


def check_argument(name: str, value: object, *, default: object, annotation: str, function: str = "") -> None:
    """Check an argument by its name.

    Raises InputError if it is not what its name stands for, or a number out of range.
    """
    if value is None and (default is None or "None" in annotation.split(" | ")):
        return
    if name in OBJECTS and not hasattr(value, OBJECTS[name][0]):
        path = isinstance(value, str | Path) and name not in ("model", "ax")
        hint = f" Read it first: {name} = stmmr.read({str(value)!r})." if path else ""
        raise InputError(f"Expected {name} to be {OBJECTS[name][1]}, found {type(value).__name__}.{hint}")
    _check_container(name, value, annotation)
    allowed = RANGES.get(f"{function}.{name}", RANGES.get(name))
    automatic, types = "auto" in annotation, set(annotation.split(" | ")) - {"None"}
    if types == {"bool"}:
        allowed = SWITCH
    elif types == {"str"} and (name in NAMES or name.endswith(("_key", "_rep", "key_added"))):
        allowed = NAME
    if allowed is None or (automatic and str(value) == "auto"):
        return
    fits = isinstance(value, allowed.kind) and (allowed is SWITCH or not isinstance(value, bool))
    if not (fits and allowed.holds(value)):
        text = f"{allowed.text} or 'auto'" if automatic else allowed.text
        raise InputError(f"Expected {name} to be {text}, found {value!r}.")


def _check_container(name: str, value: object, annotation: str) -> None:
    """Check that a value is a mapping, or a sequence of texts and no text, where the annotation has nothing else."""
    kind = annotation.removesuffix(" | None")
    if re.fullmatch(r"Mapping\[[^|]*\]", kind) and not isinstance(value, Mapping):
        raise InputError(f"Expected {name} to be a mapping, such as {{'1': …}}, found {value!r}.")
    if (
        re.fullmatch(r"Sequence\[str\]", kind)
        and name != "genes"
        and (isinstance(value, str) or not isinstance(value, Iterable))
    ):
        hint = f" Give a list: {name}=[{value!r}]." if isinstance(value, str) else ""
        raise InputError(f"Expected {name} to be a list of names, found {value!r}.{hint}")


def checked(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Check the arguments of a function by their names before each call, and complete their documentation.

    Raises
    ------
    InputError
        If an argument is not what its name stands for, or a number out of range.
    TypeError
        If there is no parameter of a name; the message suggests the closest.
    """
    signature = inspect.signature(function)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not takes_any:
            require_names(kwargs, signature.parameters, function=function.__name__)
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # Python's own message names the function
        for name, value in arguments.items():
            parameter = signature.parameters[name]
            check_argument(
                name, value, default=parameter.default, annotation=str(parameter.annotation), function=function.__name__
            )
        return function(*args, **kwargs)

    if "\nParameters\n" not in doc_of(call):
        return call
    left_out = [name for name in signature.parameters if not re.search(rf"^(.*, )?{name}(,.*)?$", doc_of(call), re.M)]
    described = [f"{name}\n    {DESCRIPTIONS[name]}" for name in left_out if name in DESCRIPTIONS]
    call.__doc__ = with_parameters(doc_of(call), described)
    return call


def doc_of(described: Any) -> str:
    """Get the docstring of a function or class, without its indentation."""
    return inspect.cleandoc(described.__doc__ or "")


def with_parameters(doc: str, parameters: Iterable[str]) -> str:
    """Add parameters at the end of their section of a docstring."""
    _, heading, rest = doc.partition("\nParameters\n----------\n")
    end = re.search(r"\n\n\w+\n---", rest) if heading else None
    position = len(doc) - len(rest) + (end.start() if end else len(rest))
    return "\n".join([doc[:position], *parameters]) + doc[position:]


def require_names(names: Iterable[str], known: Iterable[str], *, function: str) -> None:
    """Check that a function has parameters of these names.

    Raises TypeError if there is no parameter of a name; the message suggests the closest.
    """
    known = list(known)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise TypeError(f"{function}() got an unexpected option {name!r}.{did_you_mean(close)}")


def with_changes(kind: type[Options], options: Options | None, changes: Mapping[str, Any], *, function: str) -> Options:
    """Make the options of a function from an options object, single options by name, or both.

    Raises TypeError if there is no option of that name.
    """
    require_names(changes, option_names(kind), function=function)
    return replace(options if options is not None else kind(), **changes)  # type: ignore[type-var]  # a dataclass


def option_names(kind: type) -> list[str]:
    """Get the names of the options of a dataclass."""
    return [field.name for field in fields(kind)]


def shows_options(kind: type) -> Callable[[Function], Function]:
    """Show the fields of a dataclass as keyword options of a function: in its signature, and with their documentation.

    The attributes in the docstring of the dataclass are added to the parameters in that of the function.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        taken = {each.name for each in own}
        shown = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
            for f in fields(kind)
            if f.name not in taken
        ]
        function.__signature__ = signature.replace(parameters=own + shown)  # type: ignore[attr-defined]
        documented = [doc_of(each).partition("\n\nAttributes\n----------\n")[2] for each in kind.__mro__]
        function.__doc__ = with_parameters(doc_of(function), filter(None, documented))
        return function

    return decorate


def as_json(options: object) -> dict[str, Any]:
    """Write the options that differ from their defaults as JSON holds them."""
    return {
        field.name: plain(getattr(options, field.name))
        for field in fields(options)  # type: ignore[arg-type]  # a dataclass
        if getattr(options, field.name) != field.default
    }


def plain(value: Any) -> Any:
    """Turn a value into what JSON holds; NaN becomes null."""
    import numpy as np

    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
