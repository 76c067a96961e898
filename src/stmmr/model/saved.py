"""A fitted model in ``uns["stmmr"]``, and in files (``model.json`` and ``weights.safetensors``), without torch."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed
from stmmr._core.depends import depends
from stmmr._core.folders import Kind, publish_folder
from stmmr._core.record import recorded
from stmmr._core.untrusted import require_memory
from stmmr._core.validated import from_json, read_json
from stmmr._core.version import VERSION
from stmmr.linear.start import Affine, LinearStart
from stmmr.settings import IMAGE, Block, Preset, Settings, used_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.model.model import StMMR

Arrays = dict[str, "NDArray[np.generic]"]
"""Weights by the names that the network has for them."""
FORMAT: Final = 3
"""Version of the files. Format 2 always had a decoder; 1 had no blocks other than the expression and the histology."""
WEIGHTS: Final = "weights.safetensors"
RENAMED: Final = {
    "encode_expression": "encoders.0",
    "encode_histology": "encoders.1",
    "decoder": "decoders.0",
    "log_dispersion": "decoders.0.log_dispersion",
}
"""New names of the weights of format 1."""
MODEL: Final = Kind("a model", "model.json", frozenset({"format", "settings"}), rf"model\.json|{re.escape(WEIGHTS)}")
"""A folder with a model."""
WIDEST: Final = 100_000
"""Most units of a layer of a network."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """The content of model.json."""

    format: int
    preset: Preset
    use_rep: str | None
    use_histology: bool
    random_state: int
    settings: Settings
    gene_names: list[str]
    history: dict[str, list[float]]
    blocks: dict[str, Block] = field(default_factory=dict)
    data: str | None = None


def note_fitted(model: StMMR, embedding: NDArray[np.float32] | None = None) -> None:
    """Write the parameters and the history of a model to its AnnData, and the embedding if it is given."""
    adata = model.adata
    if embedding is not None:
        adata.obsm[keys.EMBEDDING] = embedding
    start = model._linear
    values = model.network.weights.numpy() if start is None else linear_weights(start)["weights"]
    weights = dict(zip([block.name for block in model.inputs.blocks], values.tolist(), strict=True))
    parameters = asdict(model.settings) | {
        "preset": model.preset,
        "use_rep": model.use_rep or "",
        "use_histology": model.use_histology,
        "random_state": model.random_state,
        "scaled": model.inputs.start is not None,
    }
    if model.use_histology:
        parameters["histology_weight_used"] = weights[IMAGE]
    parameters["blocks"] = {
        name: {"key": block.key, "likelihood": block.likelihood or "", "weight": weights[name]}
        for name, block in model.blocks.items()
    }
    steps = {name: step for name, step in recorded(adata).items() if name != "history"} | {"model": parameters}
    if model.history:
        steps["history"] = {name: np.asarray(term) for name, term in model.history.items()}
    adata.uns[keys.UNS] = steps


def note_embedding(model: StMMR) -> None:
    """Record what the embedding of a fitted model was computed from."""
    weight = model.settings.histology_weight
    blocks = used_blocks(model.blocks, histology=model.use_histology, histology_weight=weight)
    features = [model.use_rep or keys.COMPONENTS, *(block.key for block in blocks.values())]
    note_sources(model.adata, features)


def note_sources(adata: AnnData, features: Iterable[str]) -> None:
    """Record that the embedding was computed from the spatial graph and features in ``obsm``."""
    on = ["notes:spatial_graph", *(f"obsm:{key}" for key in features)]
    depends(adata, "embedding", on=on, writes=[f"obsm:{keys.EMBEDDING}", "notes:model", "notes:history"])


def save_model(model: StMMR, folder: Path, *, overwrite: bool) -> None:
    """Write both files to a folder; an earlier folder stays whole until then."""
    from safetensors.numpy import save

    description = {
        "format": FORMAT,
        "made_by": f"stmmr {VERSION}",
        "preset": model.preset,
        "use_rep": model.use_rep,
        "use_histology": model.use_histology,
        "blocks": {name: asdict(block) for name, block in model.blocks.items()},
        "random_state": model.random_state,
        "settings": asdict(model.settings),
        "gene_names": model.inputs.gene_names,
        "data": model.inputs.data_fingerprint(),
        "history": model.history,
    }
    with publish_folder(folder, MODEL, overwrite=overwrite) as partial:
        (partial / WEIGHTS).write_bytes(save(_weights_of(model)))  # raises OSError on a full disk
        (partial / "model.json").write_text(json.dumps(description, indent=2) + "\n")


def load_model(make: type[StMMR], folder: Path, adata: AnnData) -> StMMR:
    """Read a model, as `StMMR.load` documents it."""
    saved = _read_description(folder)
    model = make(
        adata,
        preset=saved.preset,
        use_rep=saved.use_rep,
        use_histology=saved.use_histology,
        blocks=saved.blocks,
        random_state=saved.random_state,
        **asdict(saved.settings),
    )
    if saved.gene_names != model.inputs.gene_names:
        raise InputError(
            f"Expected the {len(saved.gene_names)} genes of the model in {folder}, found "
            f"{len(model.inputs.gene_names)} others or another order. Load it with the AnnData it was fitted to."
        )
    if saved.data not in (None, model.inputs.data_fingerprint()):
        raise InputError(
            f"Expected the AnnData that the model in {folder} was fitted to, found other data with the same genes. For "
            "another section, load the model with its own data and call model.transform(section), or map the section "
            "onto the result folder: stmmr.map(section, result) (stmmr map)."
        )
    _read_weights(model, folder, saved)
    embedding, before = model.embed(), adata.obsm.get(keys.EMBEDDING)
    # computed again, it differs by round-off, from which results that depend on it would look outdated
    same = before is not None and np.shape(before) == embedding.shape and np.allclose(before, embedding, atol=1e-4)
    note_fitted(model, None if same else embedding)
    note_embedding(model)
    return model


def _read_description(folder: Path) -> Description:
    """Read model.json, checked."""
    path = folder / "model.json"
    if not path.is_file():
        names = listed(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise InputError(f"Expected a model saved by stmmr in {folder} (model.json), found {names}.")
    content = read_json(path, expected="the description of a model")
    if content.get("format") not in list(range(1, FORMAT + 1)):
        raise InputError(
            f"Expected a model of format {FORMAT} in {path}, found format {content.get('format')!r}. Use the stmmr "
            "version that wrote it."
        )
    description = from_json(Description, content, where=f"the description of a model in {path}")
    settings = description.settings
    widths = [settings.n_components, settings.hidden, settings.latent, settings.decoder_hidden]
    if min(widths) < 0 or max(widths) > WIDEST:
        raise InputError(f"Expected layers of 0 to {WIDEST} units in {path}, found {listed(widths)}.")
    n_genes = len(description.gene_names)
    layers = [max(n_genes, widths[0]), *widths[1:], n_genes]
    require_memory(4 * sum(first * second for first, second in pairwise(layers)), path)
    return description


def _read_weights(model: StMMR, folder: Path, saved: Description) -> None:
    """Read the weights into a model; those of a decoder wait until the network is needed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights: Arrays = load_file(folder / WEIGHTS)
        if saved.format == 1:
            weights = _renamed(weights, saved)
        model._restore(weights, saved.history)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"Expected whole weights that fit in {folder / WEIGHTS}, found: {detail}") from error


def _weights_of(model: StMMR) -> Arrays:
    """Get all weights; of a linear model whose decoder is not fitted, those of the linear embedding."""
    if model._linear is not None and not model.history:
        return linear_weights(model._linear)
    if model._unread:
        return model._unread
    return {name: values.numpy() for name, values in model.network.state_dict().items()}


def linear_weights(start: LinearStart) -> Arrays:
    """Name the weights of a linear embedding as the network does."""
    weights: Arrays = {"weights": np.asarray(start.weights, dtype=np.float32)}
    for i, encoder in enumerate(start.encoders):
        weights[f"encoders.{i}.weights.0"], weights[f"encoders.{i}.biases.0"] = encoder.single()
    return weights


def linear_start_in(weights: Arrays, like: LinearStart) -> LinearStart:
    """Get the linear embedding from weights; a ValueError says where their shapes are not those of `like`."""
    for name, expected in linear_weights(like).items():
        if name not in weights or weights[name].shape != expected.shape:
            shape = f"shape {weights[name].shape}" if name in weights else "none"
            raise ValueError(f"{shape} for {name}, which has shape {expected.shape} here")
    encoders = [
        Affine(*(np.asarray(weights[f"encoders.{i}.{part}.0"], dtype=np.float32) for part in ("weights", "biases")))
        for i in range(len(like.encoders))
    ]
    return LinearStart(encoders, weights["weights"].tolist())


def _renamed(weights: Arrays, saved: Description) -> Arrays:
    """Bring weights of format 1 to the names they have now."""
    fusion = [saved.settings.expression_weight, float(weights.pop("histology_weight"))]
    used = fusion if saved.use_histology else fusion[:1]
    renamed: Arrays = {"weights": np.asarray(used, dtype=np.float32)}
    for name, values in weights.items():
        first, dot, rest = name.partition(".")
        renamed[RENAMED.get(first, first) + dot + rest] = values
    return renamed
