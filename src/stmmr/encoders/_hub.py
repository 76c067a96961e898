"""Where the files of a model are: in a folder, or on the Hugging Face hub by way of its cache."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmmr._validate import InputError, listed, require_extra
from stmmr.encoders._fingerprints import files_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger("stmmr")

HUB: Final = "https://huggingface.co"
TIMEOUT_S: Final = 10.0
"""Seconds after which the hub counts as out of reach."""
CONFIG: Final = "config.json"
HUB_NAME: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
WEIGHTS: Final = (r"model.*\.safetensors", r".*\.safetensors", r"pytorch_model.*\.bin", r".*\.(bin|pth)")
"""What files of weights are called, the best to have first."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model."""

    folder: Path
    name: str
    """Name on the hub, or of the folder."""
    commit: str | None = None
    """State of the repository on the hub."""

    def fingerprint(self) -> str:
        """Tell the weights and the configuration apart from every other one."""
        if self.commit is not None:
            return f"{self.name}@{self.commit}"
        weights = best_weights(p.name for p in self.folder.iterdir())
        return files_fingerprint([*self.folder.glob("*.json"), *(self.folder / name for name in weights)])


def find_model(model: str | Path, *, with_code: bool = False) -> ModelFiles:
    """Find a model in a folder, or else on the hub: downloaded to the hub's cache once, and read there.

    Parameters
    ----------
    model
        Folder, or name on the hub such as ``owkin/phikon``.
    with_code
        Whether the Python files of the repository come along.

    Raises
    ------
    InputError
        If there is no such folder or it holds no model, or if the hub is out of reach, does not know the model
        or does not give it to this user.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            found = listed(sorted(p.name for p in folder.iterdir()))
            raise InputError(f"Expected the folder of a model, with a {CONFIG}, found {found} in {folder}.")
        return ModelFiles(folder, folder.resolve().name)
    if folder.is_file():
        raise InputError(f"Expected the folder of a model, found the file {folder}. Give the folder it is in.")
    if isinstance(model, Path) or not HUB_NAME.fullmatch(model):
        raise InputError(f"Expected the folder of a model, or its name on {HUB}, found neither at {str(model)!r}.")
    return _on_hub(model, with_code=with_code)


def best_weights(names: Iterable[str]) -> list[str]:
    """Pick the files of weights: one format where there are several, safetensors rather than pickles."""
    names = sorted(names)
    for pattern in WEIGHTS:
        if found := [name for name in names if re.fullmatch(pattern, name)]:
            return found
    return []


def _on_hub(model: str, *, with_code: bool) -> ModelFiles:
    """Get a model from the hub, or what the cache has of it where the hub does not give it."""
    require_extra("huggingface_hub", extra="vit")
    try:
        folder = _downloaded(model, with_code=with_code)
    except Exception as error:  # noqa: BLE001 (its HTTP client, and so its errors, differ between versions)
        cached = _cached(model)
        if cached is None:
            raise InputError(_why(error, model)) from error
        logger.info("The hub does not give %s (%s); its files in the cache are used.", model, type(error).__name__)
        folder = cached
    return ModelFiles(folder, model, commit=folder.name)


def _downloaded(model: str, *, with_code: bool) -> Path:
    """Ask the hub for the state of a model, and download what is not in the cache."""
    from huggingface_hub import HfApi, snapshot_download

    # unlike a download, this question is asked once, without the half minute of repetitions
    info: Any = HfApi().model_info(model, timeout=TIMEOUT_S)
    names = [file.rfilename for file in info.siblings if "/" not in file.rfilename]
    kinds = (".json", ".py") if with_code else (".json",)
    wanted = [name for name in names if name.endswith(kinds)] + best_weights(names)
    cached = _cached(model)
    if cached is not None and cached.name == info.sha and all((cached / name).exists() for name in wanted):
        return cached
    return Path(snapshot_download(model, allow_patterns=wanted))


def _cached(model: str) -> Path | None:
    """Get the folder of a model in the hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, local_files_only=True, allow_patterns=[CONFIG]))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if (folder / CONFIG).is_file() and best_weights(p.name for p in folder.iterdir()) else None


def _why(error: Exception, model: str) -> str:
    """Say why the hub did not give a model, and what to do."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return (
            f"Expected access to the model {model}, found that its owners ask for consent first. Ask for access at "
            f"{HUB}/{model}, then run: hf auth login."
        )
    if isinstance(error, (RepositoryNotFoundError, HFValidationError)):
        return (
            f"Expected the name of a model on {HUB}, found none that is called {model!r} there. If it is private, "
            "run: hf auth login. stmmr.pp.encoders() lists models that are known."
        )
    if isinstance(error, HfHubHTTPError):
        return f"Expected the model {model} from {HUB}, found its answer: {str(error).splitlines()[0]}"
    return (
        f"Expected the model {model} in the cache or a way to {HUB}, found no connection "
        f"({type(error).__name__}). Download it on another machine (hf download {model} --local-dir FOLDER) and "
        "give its folder."
    )
