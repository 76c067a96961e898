// A small simulated section with a drawn H&E image, so that the test downloads nothing.
process SIMULATE {
    conda "${moduleDir}/../environment.yml"
    container "biocontainers/stmmr-kit:0.1.0--pyhdfd78af_0"

    output:
    path "section.h5ad", emit: h5ad

    script:
    """
    export MPLCONFIGDIR=./matplotlib NUMBA_CACHE_DIR=./numba
    python -c 'import stmmr; stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_genes=100).write_h5ad("section.h5ad")'
    """

    stub:
    """
    touch section.h5ad
    """
}
