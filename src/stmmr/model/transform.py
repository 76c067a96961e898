"""Input of a fitted model from a new section: the same genes, components, bandwidth and scales, centred on itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_step
from stmmr._core.counts import Normalisation, count_statistics, library_size
from stmmr._core.kernel import kernel_of, nearest_neighbour_distance
from stmmr._core.order import put_back, taken, tissue_order, without_counts
from stmmr._core.pca import projected
from stmmr._core.raw import raw_counts
from stmmr._core.record import record, recorded
from stmmr._core.rows import by_rows, map_rows
from stmmr._core.sections import centred, graph_sections, laid_apart, plane_coordinates, section_codes, sections_of
from stmmr._core.space import coordinates, units
from stmmr.linear.blocks import block_features, block_values, standardised
from stmmr.linear.noise import expression_features, local_noise, with_equal_noise
from stmmr.model.inputs import propagated
from stmmr.model.saved import note_sources
from stmmr.pp import spatial_graph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.settings import Block

GENES_AT_LEAST: Final = 0.1
"""Share of the model's genes that a new section must have."""


def mapped_features(
    trained: AnnData,
    new: AnnData,
    blocks: Mapping[str, Block],
    *,
    n_components: int,
    layer: str | None,
    size_key: str | None,
    section_key: str | None,
    progress: bool,
) -> list[NDArray[np.float32]]:
    """Get the propagated features of a new section, shape (N, F) each, and make its graph.

    Raises InputError if most genes, the counts or the coordinates are missing, or a block cannot be mapped.
    """
    _check_blocks(new, blocks)
    expression = _expression(trained, new, layer=layer, size_key=size_key, section_key=section_key, progress=progress)
    spatial_graph(new, bandwidth=_bandwidth(trained, new, section_key), section_key=section_key)
    order = tissue_order(new)
    trained, new = without_counts(trained, tissue_order(trained)), without_counts(new, order)
    expression = _with_noise_of(trained, new, taken(expression, order)[:, :n_components])
    images = [_image(trained, new, block, n_components=n_components) for block in blocks.values()]
    kernel = kernel_of(new)
    smooth = [propagated(features, kernel, progress=progress) for features in (expression, *images)]
    return [put_back(features, order) for features in smooth]


def _expression(
    trained: AnnData, new: AnnData, *, layer: str | None, size_key: str | None, section_key: str | None, progress: bool
) -> NDArray[np.float32]:
    """Project the log-normalised genes of a section on the components of the model, centred in each section."""
    step = require_step(trained, "expression", by="stmmr.pp.expression")
    loadings = np.asarray(trained.varm[keys.LOADINGS], dtype=np.float64)
    model_genes = trained.var_names[trained.var[keys.HIGHLY_VARIABLE].to_numpy()]
    genes = new.var_names.isin(model_genes)
    _check_genes(list(model_genes), int(genes.sum()), new)
    where, matrix = raw_counts(new, layer)
    counts = by_rows(matrix)
    statistics = count_statistics(counts, progress=progress)
    statistics.check(where, new)
    size = library_size(new, statistics.size, size_key=size_key)
    sections = sections_of(new, section_key)
    codes = section_codes(sections, new.n_obs)
    normalise = Normalisation(genes, size, float(step["median_library_size"]), codes, statistics.largest)
    totals = sum(map_rows(normalise.totals, counts, task="means of genes", progress=progress))
    centres = totals / np.maximum(np.bincount(codes), 1)[:, None]
    axes = loadings[trained.var_names.get_indexer(new.var_names[genes])]
    new.obs[keys.LIBRARY_SIZE] = size
    return projected(counts, normalise, centres=centres, axes=axes, progress=progress)


def _with_noise_of(trained: AnnData, new: AnnData, expression: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring the noise of a section, whose sequencing depth may differ, to that of the fitted sections."""
    known = expression_features(trained, use_rep=None, n_components=expression.shape[1])
    noise = local_noise(known, plane_coordinates(trained))
    sections = graph_sections(new)
    codes = section_codes(sections, new.n_obs)
    return with_equal_noise(expression, plane_coordinates(new), codes, to=noise)


def _check_genes(model_genes: list[str], n_present: int, new: AnnData) -> None:
    """Check that a section has genes of the model, and warn about missing ones."""
    n_genes = len(model_genes)
    if n_present < GENES_AT_LEAST * n_genes:
        raise InputError(
            f"Expected the {n_genes} genes of the model, such as {listed(model_genes[:3])}, found {n_present} of "
            f"them among {new.n_vars} such as {listed(new.var_names[:3])}. Use the gene names of the fitted data."
        )
    if n_present < n_genes:
        logger.warning(
            "%d of the %d genes of the model are missing; they are treated as constant.", n_genes - n_present, n_genes
        )


def _bandwidth(trained: AnnData, new: AnnData, section_key: str | None) -> float:
    """Convert the bandwidth of the model to the units of a new section, by µm, otherwise by the distance of spots."""
    graph = require_step(trained, "spatial_graph", by="stmmr.pp.spatial_graph")
    if graph["use"] == "array":
        raise InputError(
            "Expected a model with a graph of obsm['spatial'], found one of array positions. Fit it again without "
            "use='array' in stmmr.pp.spatial_graph."
        )
    _, um, _ = units(new)
    if math.isfinite(um) and math.isfinite(graph["um_per_unit"]):
        return float(graph["bandwidth"] * graph["um_per_unit"] / um)
    # sections may overlap in their coordinates
    distance = nearest_neighbour_distance(laid_apart(coordinates(new), sections_of(new, section_key)))
    return float(graph["bandwidth"] / graph["nearest_neighbour_distance"] * distance)


def _check_blocks(new: AnnData, blocks: Mapping[str, Block]) -> None:
    """Check that a new section has the further blocks of the model, and that they are images."""
    for name, block in blocks.items():
        if block.likelihood is not None:
            raise InputError(
                f"Expected a model of expression and images, found the block {name!r} with likelihood "
                f"{block.likelihood!r}. Fit a model without it, or one model to all sections together."
            )
        if block.key not in new.obsm:
            raise InputError(
                f"Expected obsm[{block.key!r}], which the model uses, found {listed(new.obsm)}. Compute it as for the "
                "fitted data, e.g. with stmmr.pp.histology."
            )


def _image(trained: AnnData, new: AnnData, block: Block, *, n_components: int) -> NDArray[np.float32]:
    """Project features of an image on the components of the model, with its scales, centred on the new section."""
    before: Any = centred(np.asarray(block_values(trained, block)), graph_sections(trained))
    after: Any = centred(np.asarray(block_values(new, block)), graph_sections(new))
    if before.shape[1] != after.shape[1]:
        raise InputError(
            f"Expected {before.shape[1]} features in obsm[{block.key!r}], as in the fitted data, found "
            f"{after.shape[1]}. Use the same encoder, and n_components=0 if it has many features."
        )
    scores = block_features(trained, block, n_components=n_components)
    axes = np.linalg.lstsq(standardised(before).astype(np.float64), scores.astype(np.float64))[0]
    spread = before.std(axis=0)
    scaled = (after - after.mean(axis=0)) / np.where(spread > 1e-6, spread, 1)
    return np.asarray(scaled @ axes, dtype=np.float32)


def note_mapped(trained: AnnData, new: AnnData, blocks: Mapping[str, Block]) -> None:
    """Record in a section which model embedded it, from which features."""
    record(new, model=recorded(trained)["model"] | {"mapped": True})
    note_sources(new, [block.key for block in blocks.values()])
