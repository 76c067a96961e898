"""The model as users see it: fit, embed, denoise, transform, save, load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, require_extra, require_key
from stmmr._core.depends import drop_outdated
from stmmr._core.options import checked
from stmmr.linear.blocks import check_blocks
from stmmr.model.devices import Devices
from stmmr.model.inputs import ModelInputs, model_inputs
from stmmr.model.saved import Arrays, linear_start_in, load_model, note_embedding, note_fitted, save_model
from stmmr.model.transform import mapped_features, note_mapped
from stmmr.settings import EXPRESSION, IMAGE, Block, Blocks, Settings, named_blocks, settings_of, used_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.linear.start import LinearStart
    from stmmr.model.devices import Accelerator, Precision, Strategy
    from stmmr.nn import Network


class StMMR:
    """Multi-modal representation of spatial transcriptomics (Zhang et al. 2024, doi:10.1093/gigascience/giae089).

    The embedding of the default preset is linear: it needs no training and no PyTorch. A decoder is fitted when
    denoised expression is requested. The preset "paper" and settings that train something need the extra ``torch``.

    Parameters
    ----------
    adata
        Annotated data after `stmmr.pp.expression` (unless `use_rep`), `stmmr.pp.spatial_graph` and, with an H&E image,
        `stmmr.pp.histology`. A row is a spot, cell or bin; this page says "spot".
    preset
        "default", or "paper" for the published model.
    use_rep
        Key of ``obsm`` to use instead of counts, with a Gaussian likelihood.
    use_histology
        Whether to use ``obsm["X_histology"]``; ``None``: if it exists.
    blocks
        Further kinds of measurement by name, each a `stmmr.Block` that names a key of ``obsm``.
    random_state
        Random seed.
    progress
        Whether to show a progress bar while features are propagated.
    **settings
        Settings that differ from the preset, see `stmmr.settings.Settings`.

    Raises
    ------
    InputError
        If a preprocessing step is missing, or a setting is out of range.
    ImportError
        If the settings need PyTorch and it is not installed.
    """

    @checked
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
        self.devices = Devices()
        self.fitted = False
        self.history: dict[str, list[float]] = {}
        self._unread: Arrays = {}
        self._network: Network | None = None
        if self.trains:
            require_extra("torch", extra="torch")
        check_blocks(adata, self.blocks)
        weight = self.settings.histology_weight
        used = used_blocks(self.blocks, histology=self.use_histology, histology_weight=weight)
        self.inputs: ModelInputs = model_inputs(adata, self.settings, use_rep=use_rep, blocks=used, progress=progress)
        if self.inputs.start is not None:
            self.settings = self.settings.but(latent=self.inputs.start.latent)
            logger.info("%d informative components kept.", self.settings.latent)
            first, *others = self.inputs.blocks
            for block in others:
                logger.info("Weight of %s: %.3f (expression: %g).", block.name, block.weight, first.weight)
        if self.settings.attention:
            from stmmr.model.landmarks import keys_of

            self.inputs = replace(self.inputs, keys=keys_of(self.inputs, self.settings))

    @property
    def trains(self) -> bool:
        """Whether `fit` trains; with False the embedding is linear and needs neither training nor PyTorch."""
        return not self.settings.is_linear

    @property
    def _linear(self) -> LinearStart | None:
        """The linear embedding; None for a model that trains."""
        return None if self.trains else self.inputs.start

    @property
    def network(self) -> Network:
        """The network in PyTorch, made when it is first needed."""
        if self._network is None:
            require_extra("torch", extra="torch")
            from stmmr.model.loop import load_weights, new_network

            network = new_network(self.inputs, self.settings, random_state=self.random_state)
            if self._unread:
                load_weights(network, self._unread)
            self._network, self._unread = network, {}
        return self._network

    def _restore(self, weights: Arrays, history: dict[str, list[float]]) -> None:
        """Become fitted, with weights of a file. Those of a decoder wait until the network is needed.

        Raises
        ------
        ValueError, RuntimeError
            If weights are missing or do not fit.
        """
        self.history, self.fitted = history, True
        if self._linear is not None:
            self.inputs = replace(self.inputs, start=linear_start_in(weights, self._linear))
            self._unread = weights if history else {}
        else:
            self._unread = weights
            self.network  # noqa: B018 - made at once, so that weights that do not fit are noticed

    @checked
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
        """Compute the embedding, after a training if the settings need one; the default preset needs none.

        Several processes share the batches and average their gradients, so they take that many times fewer steps. A
        script that starts them (`devices` > 1) needs ``if __name__ == "__main__":`` around its main part.

        Parameters
        ----------
        progress
            Whether to show a progress bar.
        checkpoint
            File that keeps the state of the training, written every minute and at the end. If it exists, the training
            resumes from it, and ends with the same weights bit by bit.
        accelerator
            "cuda", "cpu", or "auto" for a GPU if there is one.
        devices
            Processes on each machine, each with its own GPU on GPUs; several need the extra ``distributed``.
        num_nodes
            Machines; several are started by torchrun or SLURM.
        strategy
            "ddp_spawn" starts processes, "ddp" runs the script once in each, and "auto" uses the processes that
            torchrun or SLURM started, otherwise "ddp_spawn".
        precision
            "bf16-mixed" for matrix products in bfloat16; None: float32.

        Returns
        -------
        The model. Sets ``obsm["X_stmmr"]`` (float32, shape (n_obs, latent)) and, in ``uns["stmmr"]``, ``"model"``
        (settings, and the weight of each block) and, after a training, ``"history"`` (the loss and its terms at each
        step).

        Raises
        ------
        InputError
            If a GPU is missing, or the checkpoint is of another training.
        FloatingPointError
            If the loss is not finite.
        ChildProcessError
            If one of several processes ended before the training was done.
        """
        self.devices = Devices(accelerator, devices, num_nodes, strategy, precision)
        self.devices.check(self.settings, self.adata.n_obs)
        if self.trains:
            from stmmr.model.loop import Options, train_on

            path = None if checkpoint is None else Path(checkpoint)
            options = Options(self.random_state, progress, path, precision)
            self.history, embedding = train_on(self.devices, self.network, self.inputs, options=options)
            embedding = self.inputs.put_back(embedding)
        else:
            logger.info(
                "The %s preset needs no training: the embedding is linear. A decoder is fitted when denoised "
                "expression is requested.",
                self.preset,
            )
            embedding = self.embed()
        self.fitted = True
        note_fitted(self, embedding)
        note_embedding(self)
        drop_outdated(self.adata)
        return self

    def fit_decoder(self, *, progress: bool = True) -> StMMR:
        """Fit the decoder of a linear model in one process, on the accelerator given to `fit`.

        `denoise` and `stmmr.tl.enhance` call this where it is needed. A decoder that is fitted already stays. The
        embedding does not depend on it.

        Parameters
        ----------
        progress
            Whether to show a progress bar.

        Returns
        -------
        The model. Sets ``uns["stmmr"]["history"]``.

        Raises
        ------
        InputError
            If the model is not fitted, or the GPU given to `fit` is missing.
        ImportError
            If PyTorch is not installed.
        """
        if not self.fitted:
            raise InputError("Expected a fitted model, found one that is not. Run model.fit() first.")
        if not self.history:
            devices = self.devices._replace(devices=1, num_nodes=1)
            devices.check(self.settings, self.adata.n_obs, decoder=True)
            from stmmr.model.loop import OneProcess, Options, train

            options = Options(self.random_state, progress, precision=devices.precision)
            self.history = train(self.network, self.inputs, options, processes=OneProcess(devices.device))
            self.network.cpu()
            note_fitted(self)
        return self

    def embed(self) -> NDArray[np.float32]:
        """Compute the embedding Z, shape (n_obs, latent)."""
        self.inputs.check_spots(self.adata)
        if self._linear is not None:
            return self.inputs.put_back(self._linear.embed([block.features for block in self.inputs.blocks]))
        from stmmr.model.embed import embedded

        self.network.eval()
        return self.inputs.put_back(embedded(self.network, self.inputs))

    def denoise(
        self, block: str = EXPRESSION, *, genes: Sequence[str] | None = None, progress: bool = True
    ) -> NDArray[np.float32]:
        """Decode the mean of a block's likelihood, shape (n_obs, n_targets), in the units of its values.

        The first call fits the decoder, if `fit` has not done so; this needs the extra ``torch``.

        Parameters
        ----------
        block
            Name of the block.
        genes
            Genes of the expression; None: all genes of the model. `stmmr.tl.enhance` writes them to the data.
        progress
            Whether to show a progress bar while the decoder is fitted.

        Raises
        ------
        InputError
            If the model is not fitted, or there is no such block with a likelihood or no such gene.
        """
        self.inputs.check_spots(self.adata)
        names = [each.name for each in self.inputs.decoded]
        require_key(names, block, where="the blocks with a likelihood")
        known = self.inputs.gene_names if block == EXPRESSION else []
        for gene in genes or ():
            require_key(known, gene, where="the genes that the model uses")
        columns = None if genes is None else np.array([known.index(gene) for gene in genes])
        self.fit_decoder(progress=progress)
        from stmmr.model.embed import means

        self.network.eval()
        return self.inputs.put_back(means(self.network, self.inputs, names.index(block), columns=columns))

    @checked
    def transform(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        size_key: str | None = None,
        section_key: str | None = None,
        progress: bool = True,
    ) -> None:
        """Embed a new section with this model, without training.

        Counts are scaled to the library size of the fitted data and projected on the same components of the same genes,
        centred in each section as in the fitted data. The graph has the same bandwidth in µm or, where a scale is
        unknown, in distances between spots. If the new section consists mainly of other tissue than the fitted data,
        its embedding is shifted by the difference of the means.

        Parameters
        ----------
        adata
            Section with counts and coordinates and, if the model uses an image, ``obsm["X_histology"]`` of the same
            encoder.
        layer
            Layer with the raw counts; ``None`` as in `stmmr.pp.expression`.
        size_key
            Column of ``obs`` with the library size, if `adata` has only some of the genes that were counted.
        section_key
            Column of ``obs`` with the section, if there are several.
        progress
            Whether to show progress bars for what takes longer than two seconds.

        Returns
        -------
        None. Sets ``obsm["X_stmmr"]``, ``obs["stmmr_library_size"]``, what `stmmr.pp.spatial_graph` sets, and
        ``uns["stmmr"]["model"]``. `stmmr.tl.transfer_domains` then names the domains.

        Raises
        ------
        InputError
            If the section lacks an input of the model, or the model has attention or further blocks with a likelihood.
        """
        if self.settings.attention or self.settings.features != "pca" or self.use_rep is not None:
            raise InputError(
                "Expected a model that embeds each spot from its own features (the default preset, with counts), "
                f"found preset {self.preset!r}, use_rep={self.use_rep!r}. Fit one model to all sections together."
            )
        blocks = used_blocks(self.blocks, histology=self.use_histology, histology_weight=None)
        features = mapped_features(
            self.adata,
            adata,
            blocks,
            n_components=self.settings.n_components,
            layer=layer,
            size_key=size_key,
            section_key=section_key,
            progress=progress,
        )
        if self._linear is not None:
            adata.obsm[keys.EMBEDDING] = self._linear.embed(features)
        else:
            from stmmr.model.embed import embedded_features

            self.network.eval()
            adata.obsm[keys.EMBEDDING] = embedded_features(self.network, features)
        note_mapped(self.adata, adata, blocks)
        drop_outdated(adata)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write ``weights.safetensors`` and ``model.json`` to a folder; an earlier folder stays whole until then.

        Raises
        ------
        InputError
            If the folder exists and `overwrite` is false.
        """
        save_model(self, Path(folder), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path, adata: AnnData) -> StMMR:
        """Read a saved model for the AnnData it was fitted to (same genes, same preprocessing).

        Raises
        ------
        InputError
            If the files are missing, damaged, not of a model, or do not fit `adata`.
        """
        return load_model(cls, Path(folder), adata)

    def __repr__(self) -> str:
        """Describe the model in one line."""
        names = [block.name for block in self.inputs.blocks]
        state = "fitted" if self.fitted else "not fitted"
        steps = f", {len(self.history['loss'])} steps" if self.history else ""
        return f"StMMR(preset={self.preset!r}, n_obs={self.adata.n_obs}, blocks={names}, {state}{steps})"
