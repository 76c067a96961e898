"""Every name under which stmmr reads or writes in an AnnData, in one place."""

from typing import Final

# what users bring, by the conventions of scanpy and squidpy
SPATIAL: Final = "spatial"
"""``obsm``: coordinates, shape (n_obs, 2), as x, y. ``uns``: pictures and their scale factors per library."""
ARRAY_ROW: Final = "array_row"
ARRAY_COL: Final = "array_col"
"""``obs``: integer position on the array of a platform that has one."""
IN_TISSUE: Final = "in_tissue"
COUNTS: Final = "counts"
"""``layers``: raw counts."""

# what stmmr writes
UNS: Final = "stmmr"
"""``uns``: the parameters of every step that ran, the training history and what was derived from the data."""
LOGNORM: Final = "stmmr_lognorm"
"""``layers``: counts normalised to the median library size, then log1p; float32 CSR."""
HIGHLY_VARIABLE: Final = "stmmr_highly_variable"
"""``var``: bool, the genes the model reads."""
LIBRARY_SIZE: Final = "stmmr_library_size"
"""``obs``: float, total counts of the place (or the column named by ``size_key``)."""
GRAPH: Final = "stmmr_weights"
"""``obsp``: row-normalised Gaussian kernel of the distances with doubled diagonal; float32 CSR."""
HISTOLOGY: Final = "X_histology"
"""``obsm``: features of the picture around each place; float32."""
EMBEDDING: Final = "X_stmmr"
"""``obsm``: the embedding Z; float32."""
DOMAIN: Final = "stmmr_domain"
"""``obs``: categorical, the spatial domain."""
DOMAIN_REFINED: Final = "stmmr_domain_refined"
"""``obs``: categorical, the domain after the vote of its neighbourhood."""
