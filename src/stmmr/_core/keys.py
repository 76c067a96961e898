"""Every name under which stmmr reads or writes in an AnnData, and what survives what."""

from typing import Final, Literal, NamedTuple, cast

# inputs, by the conventions of scanpy and squidpy
SPATIAL: Final = "spatial"
"""``obsm``: coordinates, shape (n_obs, 2), as x, y. ``uns``: images and their scale factors per library."""
SPATIAL_3D: Final = "spatial_3d"
"""``obsm``: coordinates in one frame of all sections, shape (n_obs, 3), as x, y, z in one unit."""
SECTION: Final = "section"
"""``obs``: the section of each spot, where several were put into one table."""
NEW_SECTION: Final = "stmmr_section"
"""``obs``: the same, where a column is called so already."""
BOUNDARIES: Final = "cell_boundaries"
"""``obsm``: outlines of cells as x, y, x, y, … in the unit of ``spatial``; CSR of 20,000 columns, see `boundaries`."""
ARRAY_ROW: Final = "array_row"
ARRAY_COL: Final = "array_col"
"""``obs``: integer position on the array of a platform that has one."""
IN_TISSUE: Final = "in_tissue"
BIN_TYPE: Final = "bin_type"
RESOLUTION: Final = "resolution"
"""``uns`` of files by stereopy: the kind of bins, and nm between the spots of the chip, the unit of the coordinates."""
COUNTS: Final = "counts"
"""``layers``: raw counts."""
SPATIALDATA: Final = "spatialdata_attrs"
"""``uns``: which elements of a SpatialData object a table describes, and by which columns of ``obs``."""

# outputs
UNS: Final = "stmmr"
"""``uns``: the parameters of every step that ran, what each chose from the data, and the training history."""
DEPENDS: Final = "stmmr_depends"
"""``uns``: what each result was computed from, as hashes."""
LOGNORM: Final = "stmmr_lognorm"
"""``layers``: counts normalised to the median library size, then log1p; float32 CSR."""
HIGHLY_VARIABLE: Final = "stmmr_highly_variable"
"""``var``: bool, the genes that the model uses."""
LIBRARY_SIZE: Final = "stmmr_library_size"
"""``obs``: float, total counts of the spot (or the column named by ``size_key``)."""
COMPONENTS: Final = "X_stmmr_pca"
"""``obsm``: principal components of the log-normalised highly variable genes; float32."""
LOADINGS: Final = "stmmr_loadings"
"""``varm``: loadings of the genes on these components, 0 for genes that were not used; float32."""
GRAPH: Final = "stmmr_weights"
"""``obsp``: row-normalised Gaussian kernel of the distances with doubled diagonal; float32 CSR."""
HISTOLOGY: Final = "X_histology"
"""``obsm``: image features of the patch around each spot; float32."""
PATCH: Final = "stmmr_patch"
"""``obs``: categorical, what the image shows around the spot: tissue, blurred, background or outside."""
TISSUE_MASK: Final = "tissue_mask"
"""``uns["spatial"][library]["images"]``: bool, shape (height, width), where the image shows tissue."""
EMBEDDING: Final = "X_stmmr"
"""``obsm``: the embedding Z; float32."""
HARMONY: Final = "X_stmmr_harmony"
"""``obsm``: the embedding as Harmony corrects it for sections; float32."""
UMAP: Final = "X_stmmr_umap"
"""``obsm``: the embedding in two dimensions; float32."""
DOMAIN: Final = "stmmr_domain"
"""``obs``: categorical, the spatial domain."""
CONFIDENCE: Final = "stmmr_confidence"
"""``obs``: float, the share of the votes of the partitions behind the consensus for it at this spot."""
ALTERNATIVE: Final = "stmmr_alternative"
"""``obs``: categorical, the second partition that the partitions behind the consensus support."""
DOMAIN_REFINED: Final = "stmmr_domain_refined"
"""``obs``: categorical, the domain after a majority vote of the nearest spots."""
PSEUDOTIME: Final = "stmmr_pseudotime"
"""``obs``: float, 0 at the root of the trajectory and 1 at its far end; NaN for spots that it does not reach."""
BRANCH: Final = "stmmr_branch"
"""``obs``: categorical, the branch of the trajectory: the domains between two forks."""
ENHANCED: Final = "stmmr_enhanced"
"""``layers``: denoised expression, float32; of chosen genes a table in ``obsm``."""
REGION: Final = "stmmr_region"
INSTANCE: Final = "stmmr_instance"
"""``obs``: in the table of a SpatialData object, the element that a spot belongs to, and its name there."""
DOMAIN_COLORS: Final = "stmmr_domain_colors"
DOMAIN_REFINED_COLORS: Final = "stmmr_domain_refined_colors"
ALTERNATIVE_COLORS: Final = "stmmr_alternative_colors"
"""``uns``: a colour for each domain, in the order of the categories, as scanpy writes and reads it."""
DOMAIN_NOTES: Final = "stmmr_domain_notes"
"""``uns``: data frame of texts about domains, by a person; of another column of domains f"{column}_notes"."""
DOMAIN_GENES: Final = "stmmr_domain_genes"
"""``uns``: data frame of every gene in every domain, against its neighbours and against the rest."""
DOMAIN_GENES_PSEUDOBULK: Final = "stmmr_domain_genes_pseudobulk"
"""``uns``: data frame of every gene in every domain against the rest, sections as replicates."""
ENRICHMENT: Final = "stmmr_enrichment"
"""``uns``: data frame of gene sets enriched among the genes of each domain."""
COMPOSITION: Final = "stmmr_composition"
"""``uns``: data frame of the spots of every domain in every section."""
COMPOSITION_TESTS: Final = "stmmr_composition_tests"
"""``uns``: data frame of tests: does the share of a domain differ between groups of sections."""
CONTACT_TESTS: Final = "stmmr_contact_tests"
"""``uns``: data frame of tests: do groups of sections differ in which domains are neighbours."""
CELL_TYPES: Final = "stmmr_cell_types"
"""``uns``: data frame of the cell types of each domain, against shifted domains."""
CONDITION_GENES: Final = "stmmr_condition_genes"
"""``uns``: data frame of genes that differ between conditions within each domain, sections as replicates."""
MORAN_I: Final = "stmmr_moran_i"
MORAN_Z: Final = "stmmr_moran_z"
MORAN_P: Final = "stmmr_moran_pval"
MORAN_P_ADJUSTED: Final = "stmmr_moran_pval_adj"
"""``var``: float, Moran's I of the gene, its z-score against chance, the p-value and the adjusted p-value."""


Container = Literal["obs", "obsm", "obsp", "var", "varm", "layers", "uns", "notes"]
"""Attributes of an AnnData; "notes" are the entries of ``uns["stmmr"]``."""
Step = Literal["expression", "graph", "histology", "embedding", "domains", "analysis", "run"]
"""Steps in their order: each reads what those before it wrote."""


class Key(NamedTuple):
    """Which step writes a key, and what the values survive."""

    container: Container
    name: str
    step: Step
    """Step that writes it. A new run of this step, or of an earlier one, makes the values out of date."""

    @property
    def survives_subset(self) -> bool:
        """Whether the values hold for the remaining spots when some are dropped; not if they describe all together."""
        if self.container in ("obs", "obsm", "layers", "varm"):
            return True
        if self.container == "uns":
            return self.name.endswith("_notes")
        return self.name == HIGHLY_VARIABLE or (self.container == "notes" and self.name not in _OF_ALL_SPOTS)

    @property
    def survives_join(self) -> bool:
        """Whether the values hold when sections are put into one table."""
        return self.container not in ("notes", "var", "uns") and survives_join(self.name)


_OF_ALL_SPOTS: Final = {"number_of_domains", "domain_tree", "gene_trends", "composition", "evaluation"}
"""Notes that describe all spots together."""


def survives_join(name: str) -> bool:
    """Tell whether a column or matrix holds when sections are put into one table; the results of a run do not."""
    return name == PATCH or not (name == HISTOLOGY or name.startswith(("stmmr_", "X_stmmr")))


def written(step: Step, **containers: tuple[str, ...]) -> tuple[Key, ...]:
    """List the keys that a step writes, by their containers."""
    return tuple(
        Key(cast("Container", container), name, step) for container in containers for name in containers[container]
    )


KEYS: Final = (
    *written(
        "expression",
        obs=(LIBRARY_SIZE,),
        var=(HIGHLY_VARIABLE,),
        varm=(LOADINGS,),
        layers=(LOGNORM,),
        obsm=(COMPONENTS,),
        notes=("expression", "counts"),
    ),
    *written("graph", obsp=(GRAPH,), notes=("spatial_graph",)),
    *written("histology", obsm=(HISTOLOGY,), obs=(PATCH,), notes=("histology",)),
    *written(
        "embedding",
        obsm=(EMBEDDING, HARMONY, UMAP),
        notes=("model", "history", "mapped", "integrate", "number_of_domains", "domain_tree"),
    ),
    *written(
        "domains",
        obs=(DOMAIN, CONFIDENCE, ALTERNATIVE, DOMAIN_REFINED),
        uns=(DOMAIN_NOTES,),
        notes=("domains", "consensus", "refine", "transfer", "evaluation", "annotation"),
    ),
    *written("run", notes=("seconds", "peak_memory_mb", "mode", "skipped")),
)
"""What a run writes; keys of analyses are in their rows of `stmmr.pipeline.analyses`. Any other key is the user's."""


def names_of(container: Container) -> list[str]:
    """Get the keys of a container that a run writes."""
    return [key.name for key in KEYS if key.container == container]


OUTPUTS: Final = frozenset(
    value for value in list(globals().values()) if isinstance(value, str) and value.startswith(("stmmr_", "X_stmmr"))
)
"""Names under which stmmr writes by default."""
