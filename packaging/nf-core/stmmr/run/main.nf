process STMMR_RUN {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container
        ? 'https://depot.galaxyproject.org/singularity/stmmr-kit:0.1.0--pyhdfd78af_0'
        : 'biocontainers/stmmr-kit:0.1.0--pyhdfd78af_0'}"

    input:
    tuple val(meta), path(section), path(image)

    output:
    tuple val(meta), path("${prefix}/result.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}/domains.csv"), emit: domains
    tuple val(meta), path("${prefix}/report.html"), emit: report, optional: true
    tuple val(meta), path("${prefix}/run.json")   , emit: json
    tuple val(meta), path("${prefix}")            , emit: results
    tuple val("${task.process}"), val('stmmr'), eval("stmmr --version"), topic: versions, emit: versions_stmmr

    when:
    task.ext.when == null || task.ext.when

    script:
    def args      = task.ext.args ?: ''
    def image_arg = image ? "--image ${image}" : ''
    prefix        = task.ext.prefix ?: "${meta.id}"
    if ("${section}" == "${prefix}") {
        error("Input and output names are the same, set prefix in module configuration to disambiguate!")
    }
    """
    export OMP_NUM_THREADS=${task.cpus}
    export MPLCONFIGDIR=./matplotlib
    export NUMBA_CACHE_DIR=./numba

    stmmr \\
        run \\
        ${section} \\
        ${image_arg} \\
        --output ${prefix} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix   = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    mkdir ${prefix}
    touch ${prefix}/result.h5ad
    touch ${prefix}/domains.csv
    touch ${prefix}/report.html
    touch ${prefix}/run.json
    """
}
