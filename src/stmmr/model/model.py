"""The model as users meet it: fit, embed, denoise, save, load."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_key
from stmmr._core.files import publish_folder
from stmmr._core.record import record
from stmmr._core.version import VERSION
from stmmr.linear.blocks import check_blocks
from stmmr.model.embed import embedded, embedded_features, means
from stmmr.model.inputs import ModelInputs, model_inputs
from stmmr.model.landmarks import keys_of
from stmmr.model.processes import Devices, train_and_embed
from stmmr.model.transform import mapped_features, note_mapped
from stmmr.nn import Network
from stmmr.settings import EXPRESSION, IMAGE, Block, Blocks, Settings, named_blocks, settings_of, used_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.model.processes import Accelerator, Precision, Strategy

FORMAT = 2
"""Version of the files of a saved model; 1 had no blocks but the expression and the histology."""
RENAMED = {
    "encode_expression": "encoders.0",
    "encode_histology": "encoders.1",
    "decoder": "decoders.0",
    "log_dispersion": "decoders.0.log_dispersion",
}
"""Weights of format 1."""


class StMMR:
    """Multi-modal representation of spatial transcriptomics (Zhang et al. 2024, doi:10.1093/gigascience/giae089).

    Parameters
    ----------
    adata
        After `stmmr.pp.expression` (unless `use_rep`), `stmmr.pp.spatial_graph` and, with a picture,
        `stmmr.pp.histology`.
    preset
        "default", or "paper" for the published model.
    use_rep
        Key of ``obsm`` to read instead of counts, with a Gaussian likelihood.
    use_histology
        Whether to read ``obsm["X_histology"]``; ``None``: where it is there.
    blocks
        Further kinds of measurement by name, each a `stmmr.Block` that names a key of ``obsm``.
    random_state
        Seed of everything that is drawn.
    progress
        Whether to show a progress bar while features are propagated.
    **settings
        Single settings that differ from the preset, see `stmmr.settings.Settings`.

    Raises
    ------
    InputError
        If a step before was not run, or a setting is out of range.
    """

    def __init__(
        self,
        adata: AnnData,
        *,
        preset: str = "default",
        use_rep: str | None = None,
        use_histology: bool | None = None,
        blocks: Blocks | None = None,
        random_state: int = 0,
        progress: bool = False,
        **settings: Any,
    ) -> None:
        if use_rep is not None:
            settings = {"likelihood": "gaussian"} | settings
        self.adata = adata
        self.preset = preset
        self.use_rep = use_rep
        self.blocks: dict[str, Block] = named_blocks(blocks, histology=bool(use_histology))
        has_histology = keys.HISTOLOGY in adata.obsm and IMAGE not in self.blocks
        self.use_histology = has_histology if use_histology is None else use_histology
        self.random_state = random_state
        self.settings: Settings = settings_of(preset, **settings)
        self.history: dict[str, list[float]] = {}
        check_blocks(adata, self.blocks)
        weight = self.settings.histology_weight
        used = used_blocks(self.blocks, histology=self.use_histology, histology_weight=weight)
        self.inputs: ModelInputs = model_inputs(adata, self.settings, use_rep=use_rep, blocks=used, progress=progress)
        start = self.inputs.start
        if start is not None:
            self.settings = self.settings.but(latent=start.latent)
            logger.info("%d directions of what was measured stand out from the noise.", self.settings.latent)
            for block in self.inputs.blocks[1:]:
                logger.info("Weight of the block %r: %.3f, that of the expression 1.", block.name, block.weight)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_state)
            self.network = Network(self.inputs.shapes, settings=self.settings)
        if start is not None:
            self.network.start_from([(torch.from_numpy(w), torch.from_numpy(b)) for w, b in start.encoders])
        self.inputs = replace(self.inputs, keys=keys_of(self.inputs, self.settings))

    def fit(
        self,
        *,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        accelerator: Accelerator = "auto",
        devices: int = 1,
        num_nodes: int = 1,
        strategy: Strategy = "auto",
        precision: Precision | None = None,
    ) -> StMMR:
        """Train, then write the embedding.

        Several processes deal the batches out and average their gradients, so that they take that many times fewer
        steps. A script that starts them (`devices` > 1) needs ``if __name__ == "__main__":`` around what it does.

        Parameters
        ----------
        progress
            Whether to show a progress bar.
        checkpoint
            File that keeps the state of the training, written every minute and at the end. Where it is there, the
            training goes on from it, and ends with the same weights bit by bit.
        accelerator
            "cuda", "cpu", or "auto" for a GPU where there is one.
        devices
            Processes on each machine, with a GPU each if on GPUs; more than one need the extra ``distributed``.
        num_nodes
            Machines; more than one as started by torchrun or SLURM.
        strategy
            "ddp_spawn" starts processes, "ddp" runs the script once in each, and "auto" takes those that torchrun or
            SLURM started, otherwise "ddp_spawn".
        precision
            "bf16-mixed" for products of matrices in bfloat16; None: all in float32.

        Returns
        -------
        The model. Sets ``obsm["X_stmmr"]`` (float32, shape (n_obs, latent)) and, in ``uns["stmmr"]``, ``"model"``
        (settings, and the weight of each block) and ``"history"`` (the objective and its terms per step).

        Raises
        ------
        InputError
            If there are no such devices, or the checkpoint is of another training.
        FloatingPointError
            If the objective is not finite.
        ChildProcessError
            If one of several processes ended before the work was done.
        """
        self.history, embedding = train_and_embed(
            self.network,
            self.inputs,
            Devices(accelerator, devices, num_nodes, strategy, precision),
            random_state=self.random_state,
            progress=progress,
            checkpoint=None if checkpoint is None else Path(checkpoint),
        )
        self._write(embedding)
        return self

    def embed(self) -> NDArray[np.float32]:
        """Compute the embedding Z, shape (n_obs, latent)."""
        self.network.eval()
        return embedded(self.network, self.inputs)

    def denoise(self, block: str = EXPRESSION, *, genes: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Decode the mean of a block's likelihood, shape (n_obs, n_targets), in the units of what it is of.

        Parameters
        ----------
        block
            Name of the block.
        genes
            Of the expression, which genes; None: all that the model reads. `stmmr.tl.enhance` writes them to the data.

        Raises
        ------
        InputError
            If there is no such block with a likelihood, or no such gene.
        """
        self.network.eval()
        names = [each.name for each in self.inputs.decoded]
        require_key(names, block, where="the blocks with a likelihood")
        known = self.inputs.gene_names if block == EXPRESSION else []
        for gene in genes or ():
            require_key(known, gene, where="the genes that the model reads")
        columns = None if genes is None else np.array([known.index(gene) for gene in genes])
        return means(self.network, self.inputs, names.index(block), columns=columns)

    def transform(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        size_key: str | None = None,
        section_key: str | None = None,
        progress: bool = True,
    ) -> None:
        """Embed another section as this one was, without training.

        Its counts are scaled to the library size of the training and projected on the same components of the same
        genes, its own mean taken off, as the means of sections are in the training; its graph has the same bandwidth in
        µm or, where a scale is unknown, in distances between places. A section that holds other tissue than the
        training in the main will be off by the difference of their means.

        Parameters
        ----------
        adata
            Places with counts and coordinates and, where the model reads a picture, ``obsm["X_histology"]`` of the same
            encoder.
        layer
            Layer with the raw counts; ``None`` as in `stmmr.pp.expression`.
        size_key
            Column of ``obs`` with the library size, where the genes at hand are only part of what was counted.
        section_key
            Column of ``obs`` with the section of each place, where there are several.
        progress
            Whether to show progress bars for what takes longer than two seconds.

        Returns
        -------
        None. Sets ``obsm["X_stmmr"]``, ``obs["stmmr_library_size"]``, what `stmmr.pp.spatial_graph` sets, and
        ``uns["stmmr"]["model"]``. `stmmr.tl.transfer_domains` names its domains.

        Raises
        ------
        InputError
            If the section lacks what the model reads, or the model attends to the places of the training or reads
            blocks with a likelihood.
        """
        if self.settings.attention or self.settings.features != "pca" or self.use_rep is not None:
            raise InputError(
                "Expected a model that embeds each place by its own features (the default preset, with counts), found "
                f"preset {self.preset!r}, use_rep={self.use_rep!r}. Train it on all sections together."
            )
        features = mapped_features(
            self.adata,
            adata,
            used_blocks(self.blocks, histology=self.use_histology, histology_weight=None),
            n_components=self.settings.n_components,
            layer=layer,
            size_key=size_key,
            section_key=section_key,
            progress=progress,
        )
        self.network.eval()
        adata.obsm[keys.EMBEDDING] = embedded_features(self.network, features)
        note_mapped(self.adata, adata)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write ``weights.safetensors`` and ``model.json`` to a folder; an earlier one stays whole until then.

        Raises
        ------
        InputError
            If the folder exists and `overwrite` is false.
        """
        from safetensors.torch import save_file

        with publish_folder(Path(folder), overwrite=overwrite, marker="model.json") as partial:
            save_file(self.network.state_dict(), partial / "weights.safetensors")
            (partial / "model.json").write_text(json.dumps(self._description(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, adata: AnnData) -> StMMR:
        """Read a saved model for the AnnData it was made of (the same genes, the same preparation).

        Raises
        ------
        InputError
            If the files are missing, damaged, from something else, or do not fit `adata`.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        saved = _read_description(folder)
        settings = Settings(**saved["settings"])
        model = cls(
            adata,
            preset=saved["preset"],
            use_rep=saved["use_rep"],
            use_histology=saved["use_histology"],
            blocks={name: Block(**block) for name, block in saved.get("blocks", {}).items()},
            random_state=saved["random_state"],
            **asdict(settings),
        )
        if saved["gene_names"] != model.inputs.gene_names:
            raise InputError(
                f"Expected the {len(saved['gene_names'])} genes the model in {folder} was made with, found "
                f"{len(model.inputs.gene_names)} others or in another order. Load it with the AnnData it was made of."
            )
        try:
            weights = load_file(folder / "weights.safetensors")
            model.network.load_state_dict(model._renamed(weights) if saved["format"] == 1 else weights)
        except (SafetensorError, OSError, RuntimeError) as error:
            detail = str(error).splitlines()[0]
            raise InputError(
                f"Expected whole weights that fit in {folder / 'weights.safetensors'}, found: {detail}"
            ) from error
        model.history = saved["history"]
        model._write(model.embed())
        return model

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "made_by": f"stmmr {VERSION}",
            "preset": self.preset,
            "use_rep": self.use_rep,
            "use_histology": self.use_histology,
            "blocks": {name: asdict(block) for name, block in self.blocks.items()},
            "random_state": self.random_state,
            "settings": asdict(self.settings),
            "gene_names": self.inputs.gene_names,
            "history": self.history,
        }

    def _renamed(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Bring weights of format 1 to the names they have now."""
        found = {"weights": torch.stack([self.network.weights[0], weights.pop("histology_weight")])}
        for name, values in weights.items():
            first, dot, rest = name.partition(".")
            found[RENAMED.get(first, first) + dot + rest] = values
        return found | {"weights": found["weights"][: len(self.inputs.blocks)]}

    def _write(self, embedding: NDArray[np.float32]) -> None:
        adata = self.adata
        adata.obsm[keys.EMBEDDING] = embedding
        history = {name: np.asarray(values) for name, values in self.history.items()}
        parameters = asdict(self.settings) | {
            "preset": self.preset,
            "use_rep": self.use_rep or "",
            "use_histology": self.use_histology,
            "random_state": self.random_state,
            "scaled": self.inputs.start is not None,
        }
        weights = dict(zip([block.name for block in self.inputs.blocks], self.network.weights.tolist(), strict=True))
        if self.use_histology:
            parameters["histology_weight_used"] = weights[IMAGE]
        parameters["blocks"] = {
            name: {"key": block.key, "likelihood": block.likelihood or "", "weight": weights[name]}
            for name, block in self.blocks.items()
        }
        record(adata, history=history, model=parameters)

    def __repr__(self) -> str:
        """Say what this model is."""
        state = f"{len(self.history['loss'])} steps" if self.history else "not trained"
        names = [block.name for block in self.inputs.blocks]
        return f"StMMR(preset={self.preset!r}, places={self.adata.n_obs}, blocks={names}, {state})"


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    if not path.is_file():
        found = listed(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise InputError(f"Expected a model saved by stmmr in {folder} (model.json), found {found}.")
    try:
        saved = json.loads(path.read_text())
        version = saved["format"]
        missing = {"preset", "use_rep", "use_histology", "random_state", "settings", "gene_names", "history"} - set(
            saved
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"Expected the description of a model in {path}, found something else. Save it again."
        ) from error
    if version not in (1, FORMAT) or missing:
        raise InputError(
            f"Expected a model of format {FORMAT} in {path}, found format {version!r}"
            + (f" without {listed(sorted(missing))}." if missing else ". Use the stmmr version it was made by.")
        )
    return dict(saved)
