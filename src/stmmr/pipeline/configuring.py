"""``stmmr run --config``: options from a run.json, or a JSON, TOML or YAML file with the same names."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmmr._core.checks import InputError, did_you_mean, listed
from stmmr._core.options import option_names, plain
from stmmr.pipeline.analyses import AnalysisOptions
from stmmr.pipeline.arguments import option_names_of
from stmmr.pipeline.options import RunFolderOptions, RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cyclopts import App, ArgumentCollection

KINDS: Final = (RunFolderOptions, RunOptions, AnalysisOptions)
INPUT: Final = "input"
LARGEST: Final = 50_000_000
"""Bytes; a run.json has far fewer."""
NOT_REPEATED: Final = frozenset({"overwrite", "save_model"})
"""Options that a run.json does not repeat."""


def config_of(sources: Sequence[Path], *options: Any) -> dict[str, Any]:
    """Get inputs and all options of a run by their names, for run.json; paths are absolute."""
    config: dict[str, Any] = {INPUT: [str(path.resolve()) for path in sources]}
    for part in options:
        values = {name: getattr(part, name) for kind in KINDS if isinstance(part, kind) for name in option_names(kind)}
        config |= {name: _plain(value) for name, value in values.items() if name not in NOT_REPEATED}
    return config


def _plain(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else plain(value)


def from_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take the options that the command line leaves open from the file of ``--config``, if there is one."""
    from cyclopts.config import Dict

    files = [token.value for argument in arguments if "--config" in argument.names for token in argument.tokens]
    if files:
        path = Path(files[0])
        known = {option_names_of(name)[0].removeprefix("--"): value for name, value in read_config(path).items()}
        Dict(known, source=str(path), use_commands_as_keys=False)(app, commands, arguments)


def read_config(path: Path) -> dict[str, Any]:
    """Read options by their names in Python; those that are not set are left out.

    Raises
    ------
    InputError
        If the file is something else, or has an unknown name.
    """
    content = _content(path)
    if isinstance(content.get("config"), Mapping):  # run.json
        content = content["config"]
    elif {"stmmr", "versions"} <= content.keys():  # run.json of an earlier version
        analyses = [part.get("options", {}) for part in content.get("analyses", {}).values()]
        content = {
            INPUT: content.get(INPUT),
            **content.get("options", {}),
            **{k: v for a in analyses for k, v in a.items()},
        }
    names = {INPUT: INPUT} | {name: name for kind in KINDS for name in option_names(kind)}
    names |= {alias.lstrip("-").replace("-", "_"): name for name in list(names) for alias in option_names_of(name)}
    options: dict[str, Any] = {}
    for key, value in content.items():
        name = names.get(str(key).replace("-", "_"))
        if name is None or name in NOT_REPEATED - {"overwrite"}:
            close = difflib.get_close_matches(str(key).replace("-", "_"), [*names], n=1)
            raise InputError(f"Expected options of stmmr run in {path}, found {key!r}.{did_you_mean(close)}")
        if name == INPUT and isinstance(value, Mapping):  # sections by their names
            value = list(value.values())
        if isinstance(value, Mapping):
            raise InputError(f"Expected a value or a list for {key!r} in {path}, found a mapping.")
        if value is not None and value != []:
            options[name] = value
    return options


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"Expected a file with options (--config), found none at {path}.")
    readers: dict[str, Callable[[str], Any]] = {
        ".json": json.loads,
        ".toml": tomllib.loads,
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
    }
    if path.suffix.lower() not in readers:
        raise InputError(f"Expected a file with options that ends with {listed(readers)}, found {path}.")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("a larger file")
        content = readers[path.suffix.lower()](path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
    except (ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"Expected options by their names in {path}, found other content ({reason}).") from error
    return content


def _read_yaml(text: str) -> Any:
    try:
        yaml: Any = import_module("yaml")
    except ImportError as error:
        raise InputError(
            "Expected the package PyYAML for a .yaml file, found none. Install it (pip install pyyaml), or write the "
            "options as .toml or .json."
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from error
