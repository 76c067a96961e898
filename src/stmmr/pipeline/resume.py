"""Finished steps of a run on disk, so that a run that was killed continues with the next step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, logger
from stmmr._core.compat import layers_of, names_in, renamed, renamed_uns, unescaped, write_escaped
from stmmr._core.files import atomic_write, hdf5_file, parsing
from stmmr._core.fingerprints import fingerprint
from stmmr._core.folders import Kind, remove, require_ours
from stmmr._core.untrusted import open_hdf5
from stmmr._core.validated import read_json
from stmmr._core.version import VERSION

if TYPE_CHECKING:
    from anndata import AnnData

FACTS: Final = "run.json"
STEPS: Final = ("expression", "spatial graph", "histology", "embedding", "number of domains", "domains")
"""Names of the steps of a run, in their order."""
KEPT: Final = Kind(
    "finished steps",
    FACTS,
    frozenset({"version", "data"}),
    rf"({'|'.join(STEPS)})\.h5|run\.json|training\.safetensors"
    r"|model/(model\.json|weights\.safetensors)|features/[^/]+/(features\.npy|manifest\.json)",
)
"""A folder of finished steps."""
AS_BEFORE: Final = "as before the step"
"""Stands for an image that a step left as it was; images are kept once, or come from the input."""
_UNS: Final = (keys.UNS, keys.DEPENDS, keys.DOMAIN_COLORS, keys.DOMAIN_REFINED_COLORS, keys.ALTERNATIVE_COLORS)


class KeptSteps:
    """The finished steps of a run, in a folder.

    Matrices of spots × genes and of spots × spots are not kept: computing them again takes less time than writing them.

    Parameters
    ----------
    folder
        Made where it is missing. Steps of another run there (other data, options or version) are removed; files of
        the user stay.
    adata
        The data, before the first step.
    options
        What else the results depend on.

    Raises
    ------
    InputError
        If the folder is not empty and stmmr wrote no steps there.
    """

    def __init__(self, folder: Path, adata: AnnData, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self.matrices, self.images = _matrices(adata), _images(adata)
        facts = {"version": VERSION, "data": data_fingerprint(adata)} | {name: repr(v) for name, v in options.items()}
        self.run = hashlib.blake2b(json.dumps(facts).encode()).hexdigest()
        path = folder / FACTS
        require_ours(folder, KEPT, option="checkpoint (--checkpoint)")
        if path.exists() and _facts_in(path) == facts:
            finished = sorted(step.stem for step in folder.glob("*.h5"))
            logger.info("Continuing an interrupted run. Finished steps: %s.", ", ".join(finished) or "none")
            return
        remove(folder, KEPT, keep=True)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as new:
            new.write_text(json.dumps(facts))

    def restore(self, step: str, adata: AnnData) -> bool:
        """Set what a finished step wrote; tell whether it was finished."""
        from anndata.io import read_elem

        path = self._path(step)
        if not path.exists():
            return False
        try:
            with parsing(path, expected="a finished step"), open_hdf5(path) as file:
                if file.attrs.get("run") != self.run:
                    return False
                kept = {name: read_elem(file[name]) for name in file}
                containers = [kept[name] for name in ("obs", "var", "obsm", "varm", "uns")]
            if not all(isinstance(container, pd.DataFrame | dict) for container in containers):
                raise InputError(f"Expected tables and mappings in {path}, found something else.")
            uns = renamed_uns(kept["uns"], unescaped)
            if keys.SPATIAL in uns:
                uns[keys.SPATIAL] = _with_images(uns[keys.SPATIAL], self.images, path)
        except InputError as error:
            logger.warning("A finished step is carried out again. %s", error)
            return False
        for container in ("obs", "var"):
            for name, column in kept[container].items():
                getattr(adata, container)[name] = column.to_numpy() if container == "var" else column.array
        for container in ("obsm", "varm"):
            getattr(adata, container).update(renamed(kept[container], unescaped))
        adata.uns.update(uns)
        self.images = _images(adata)
        return True

    def keep(self, step: str, adata: AnnData, before: Mapping[str, Any]) -> None:
        """Keep what a step wrote; `before` is ``obsm`` before the step."""
        if _matrices(adata) - self.matrices:
            self.matrices = _matrices(adata)
            return
        columns = {
            container: getattr(adata, container)[
                [name for name in keys.names_of(container) if name in getattr(adata, container)]
            ]
            for container in ("obs", "var")
        }
        obsm = {name: values for name, values in adata.obsm.items() if before.get(name) is not values}
        varm = {name: adata.varm[name] for name in keys.names_of("varm") if name in adata.varm}
        uns = {name: adata.uns[name] for name in _UNS if name in adata.uns}
        if keys.SPATIAL in adata.uns:
            uns[keys.SPATIAL] = _changed(adata.uns[keys.SPATIAL], self.images)
        with atomic_write(self._path(step)) as new, hdf5_file(new) as file:
            write_escaped(file, "/", {**columns, "obsm": obsm, "varm": varm, "uns": uns})
            file.attrs["run"] = self.run
        self.images = _images(adata)

    def _path(self, step: str) -> Path:
        return self.folder / f"{step}.h5"


def _facts_in(path: Path) -> dict[str, Any]:
    """Read the facts of a run; none if they are damaged."""
    try:
        return read_json(path, expected="what a run depends on")
    except InputError:
        return {}


def _matrices(adata: AnnData) -> set[str]:
    return {*names_in(adata.layers), *adata.obsp}


def _images(adata: AnnData) -> Any:
    """Get the images at hand, in mappings that no step changes."""
    return renamed(adata.uns.get(keys.SPATIAL, {}), str)


def _changed(images: Any, before: Any) -> Any:
    """Leave out the images that are those before a step."""
    if isinstance(images, Mapping):
        return {name: _changed(part, _part(before, name)) for name, part in images.items()}
    return AS_BEFORE if images is before and hasattr(images, "shape") else images


def _with_images(kept: Any, before: Any, path: Path) -> Any:
    """Put the images before a step where it left them as they were."""
    if isinstance(kept, Mapping):
        return {name: _with_images(part, _part(before, name), path) for name, part in kept.items()}
    if isinstance(kept, str) and kept == AS_BEFORE:
        if before is None:
            raise InputError(f"Expected the images of an earlier step for {path}, found none.")
        return before
    return kept


def _part(tree: Any, name: str) -> Any:
    return tree.get(name) if isinstance(tree, Mapping) else None


def data_fingerprint(adata: AnnData) -> str:
    """Hash names and values of all that a run may read; of counts on disk, their file."""
    uns = {name: values for name, values in adata.uns.items() if name not in (keys.UNS, keys.DEPENDS)}
    return fingerprint([adata.obs, adata.var, adata.X, layers_of(adata), dict(adata.obsm), uns])
