"""Find the files of a model: in a folder, or on the Hugging Face hub through its cache."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stmmr._core.checks import InputError, listed, logger, require_extra
from stmmr.encoders._fingerprints import files_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

HUB: Final = "https://huggingface.co"
TIMEOUT_S: Final = 10.0
"""Seconds after which the hub counts as out of reach."""
CONFIG: Final = "config.json"
HUB_NAME: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
WEIGHTS: Final = (r"model.*\.safetensors", r".*\.safetensors", r"pytorch_model.*\.bin", r".*\.(bin|pth)")
"""Names of files of weights, the preferred ones first."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model: its configuration, and its weights, which are downloaded when they are needed."""

    folder: Path
    name: str
    """Name on the hub, or of the folder."""
    commit: str | None = None
    """State of the repository on the hub."""
    on_hub: tuple[str, ...] = ()
    """Files of weights on the hub; empty if the model is a folder or the hub is out of reach."""

    def fingerprint(self) -> str:
        """Compute a string that differs between weights and configurations."""
        if self.commit is not None:
            return f"{self.name}@{self.commit}"
        return files_fingerprint([*self.folder.glob("*.json"), *(self.folder / name for name in self._weights())])

    def with_weights(self) -> Path:
        """Get the folder with the weights, downloaded if need be; raise InputError if there are none."""
        if not all((self.folder / name).exists() for name in self.on_hub):
            from huggingface_hub import snapshot_download

            try:
                snapshot_download(self.name, revision=self.commit, allow_patterns=list(self.on_hub))
            except _hub_errors() as error:
                raise InputError(explain(error, self.name)) from error
        if not self._weights():
            raise InputError(
                f"Expected weights (model.safetensors) of {self.name} in {self.folder}, found {_content(self.folder)}. "
                f"Download the whole model: hf download {self.name}."
            )
        return self.folder

    def unloadable(self, error: Exception, *, by: str) -> InputError:
        """Make the error about weights that a library cannot load."""
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "weights_only" in str(error):  # torch suggests to switch its protection off
            reason = "they are a pickle of more than weights, which could run code. Use weights in a .safetensors file."
        return InputError(
            f"Expected the weights of a model in {self.folder}, found that {by} cannot load them: {reason}"
        )

    def _weights(self) -> list[str]:
        """Get the names of the files of weights in the folder."""
        return best_weights(path.name for path in self.folder.iterdir())


def find_model(model: str | Path, *, with_code: bool = False) -> ModelFiles:
    """Find a model in a folder, or on the hub by its name there; it is downloaded to the hub's cache once.

    `with_code` downloads the Python files of the repository, too. Raises InputError if the folder is missing or has no
    model, or if the hub is out of reach, does not know the model or refuses it.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise InputError(f"Expected the folder of a model, with a {CONFIG}, found {_content(folder)} in {folder}.")
        return ModelFiles(folder, folder.resolve().name)
    if folder.is_file():
        raise InputError(f"Expected the folder of a model, found the file {folder}. Give the folder it is in.")
    if isinstance(model, Path) or not HUB_NAME.fullmatch(model):
        raise InputError(f"Expected the folder of a model, or its name on {HUB}, found neither at {str(model)!r}.")
    return _on_hub(model, with_code=with_code)


def best_weights(names: Iterable[str]) -> list[str]:
    """Choose the files of weights: of one format only, safetensors rather than pickles."""
    names = sorted(names)
    for pattern in WEIGHTS:
        if matches := [name for name in names if re.fullmatch(pattern, name)]:
            return matches
    return []


def explain(error: BaseException, model: str) -> str:
    """Explain why the hub did not deliver a model, and what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return (
            f"Expected access to the model {model}, found that its owners have to grant it. Request it at "
            f"{HUB}/{model}, then run: hf auth login."
        )
    if isinstance(error, (RepositoryNotFoundError, HFValidationError)):
        return (
            f"Expected the name of a model on {HUB}, found no model called {model!r}. If it is private, "
            "run: hf auth login. stmmr.pp.encoders() lists known models."
        )
    if isinstance(error, HfHubHTTPError) and not isinstance(error, LocalEntryNotFoundError):  # was one before 1.0
        return f"Expected the model {model} from {HUB}, found its answer: {str(error).splitlines()[0]}"
    return (
        f"Expected the model {model} in the cache or a connection to {HUB}, found no connection "
        f"({type(error).__name__}). Download it on another machine (hf download {model} --local-dir FOLDER) and "
        "give its folder."
    )


def explain_cause(error: BaseException | None, model: str) -> str:
    """Explain why the hub did not deliver a model if this is the cause of an error; else return an empty string."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    while error is not None:
        if isinstance(error, (HfHubHTTPError, LocalEntryNotFoundError)):
            return explain(error, model)
        error = error.__cause__ or error.__context__
    return ""


def _content(folder: Path) -> str:
    return listed(sorted(path.name for path in folder.iterdir()))


def _on_hub(model: str, *, with_code: bool) -> ModelFiles:
    """Get a model from the hub, or from its cache if the hub does not deliver it."""
    require_extra("huggingface_hub", extra="vit")
    try:
        return _from_hub(model, with_code=with_code)
    except _hub_errors() as error:
        cached = _cached(model)
        if cached is None:
            raise InputError(explain(error, model)) from error
        logger.info("The hub does not deliver %s (%s); its files in the cache are used.", model, type(error).__name__)
        return ModelFiles(cached, model, commit=cached.name)


def _from_hub(model: str, *, with_code: bool) -> ModelFiles:
    """Query the hub for the state of a model, and get its configuration."""
    from huggingface_hub import HfApi, snapshot_download

    # unlike a download, this request is sent once, without half a minute of repetitions
    info = HfApi().model_info(model, timeout=TIMEOUT_S)
    names = [file.rfilename for file in info.siblings or () if "/" not in file.rfilename]
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
