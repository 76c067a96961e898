"""Where the files of a model are: in a folder, or on the Hugging Face hub by way of its cache."""

from __future__ import annotations

import importlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmmr._core.checks import InputError, listed, require_extra
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
    """The files of a model: its configuration at once, its weights where they are asked for."""

    folder: Path
    name: str
    """Name on the hub, or of the folder."""
    commit: str | None = None
    """State of the repository on the hub."""
    on_hub: tuple[str, ...] = ()
    """Files of weights that the hub has; none if it was not asked or is out of reach."""

    def fingerprint(self) -> str:
        """Tell the weights and the configuration apart from every other one."""
        if self.commit is not None:
            return f"{self.name}@{self.commit}"
        return files_fingerprint([*self.folder.glob("*.json"), *(self.folder / name for name in self._weights())])

    def with_weights(self) -> Path:
        """Get the folder with the weights in it, which downloads them where they are not there yet.

        Raises
        ------
        InputError
            If there are none, or the hub does not give them.
        """
        if not all((self.folder / name).exists() for name in self.on_hub):
            from huggingface_hub import snapshot_download

            try:
                snapshot_download(self.name, revision=self.commit, allow_patterns=list(self.on_hub))
            except _hub_errors() as error:
                raise InputError(reason_of(error, self.name)) from error
        if not self._weights():
            found = listed(sorted(p.name for p in self.folder.iterdir()))
            raise InputError(
                f"Expected weights (model.safetensors) of {self.name} in {self.folder}, found {found}. Download it "
                f"whole: hf download {self.name}."
            )
        return self.folder

    def _weights(self) -> list[str]:
        """Get the names of the files of weights that are there."""
        return best_weights(path.name for path in self.folder.iterdir())


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


def reason_of(error: BaseException, model: str) -> str:
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


def refusal(error: BaseException | None, model: str) -> str:
    """Say why the hub did not give a model, if that is behind an error; else nothing."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    while error is not None:
        if isinstance(error, (HfHubHTTPError, LocalEntryNotFoundError)):
            return reason_of(error, model)
        error = error.__cause__ or error.__context__
    return ""


def _on_hub(model: str, *, with_code: bool) -> ModelFiles:
    """Get a model from the hub, or what the cache has of it where the hub does not give it."""
    require_extra("huggingface_hub", extra="vit")
    try:
        return _asked(model, with_code=with_code)
    except _hub_errors() as error:
        cached = _cached(model)
        if cached is None:
            raise InputError(reason_of(error, model)) from error
        logger.info("The hub does not give %s (%s); its files in the cache are used.", model, type(error).__name__)
        return ModelFiles(cached, model, commit=cached.name)


def _asked(model: str, *, with_code: bool) -> ModelFiles:
    """Ask the hub for the state of a model, and get its configuration."""
    from huggingface_hub import HfApi, snapshot_download

    # unlike a download, this question is asked once, without the half minute of repetitions
    info: Any = HfApi().model_info(model, timeout=TIMEOUT_S)
    names = [file.rfilename for file in info.siblings if "/" not in file.rfilename]
    wanted = [name for name in names if name.endswith((".json", ".py") if with_code else ".json")]
    folder = _cached(model)
    if folder is None or folder.name != info.sha or not all((folder / name).exists() for name in wanted):
        folder = Path(snapshot_download(model, allow_patterns=wanted))
    if not (folder / CONFIG).is_file():
        raise InputError(f"Expected a model with a {CONFIG}, found {listed(sorted(names))} at {HUB}/{model}.")
    return ModelFiles(folder, model, commit=folder.name, on_hub=tuple(best_weights(names)))


def _cached(model: str) -> Path | None:
    """Get the folder of a model in the hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, local_files_only=True, allow_patterns=[CONFIG]))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if (folder / CONFIG).is_file() else None


def _hub_errors() -> tuple[type[Exception], ...]:
    """Get what the hub raises: its own errors, and those of its HTTP client, which differ between versions."""
    from huggingface_hub import errors, utils

    own = (errors.HfHubHTTPError, errors.HFValidationError, errors.LocalEntryNotFoundError)
    session = getattr(utils, "get_session")()  # noqa: B009 (not among the names that the package declares)
    client = importlib.import_module(type(session).__module__.partition(".")[0])
    of_client = getattr(client, "TransportError", getattr(client, "RequestException", ConnectionError))
    return (*own, ConnectionError, TimeoutError, of_client)
