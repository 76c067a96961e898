// Spatial domains of a cohort: a process for each section, one that joins them, and one for each section added later.
//   nextflow run main.nf --input samples.csv --outdir results -profile docker
//   nextflow run main.nf --outdir results -profile test,docker
nextflow.enable.dsl = 2

// Read a section of any platform and write it as one file; a section that cannot be read fails here, by itself.
process PREPARE {
    tag "${meta.section}"
    label 'process_low'

    input:
    tuple val(meta), path(section, stageAs: 'input/*')

    output:
    tuple val(meta), path("${meta.section}.h5ad"), emit: h5ad

    script:
    """
    export MPLCONFIGDIR=./matplotlib NUMBA_CACHE_DIR=./numba
    python -c 'import stmmr, sys; stmmr.read(sys.argv[1]).write_h5ad(sys.argv[2])' ${section} ${meta.section}.h5ad
    """

    stub:
    """
    touch ${meta.section}.h5ad
    """
}

// Find the domains of all sections together, and write one report.
process FIT {
    label 'process_medium'
    publishDir params.outdir, mode: 'copy'

    input:
    path sheet
    path sections
    path images, stageAs: 'images/*'

    output:
    path "cohort", emit: results

    script:
    """
    export OMP_NUM_THREADS=${task.cpus} MPLCONFIGDIR=./matplotlib NUMBA_CACHE_DIR=./numba
    stmmr run ${sheet} --output cohort --no-progress ${params.run_args}
    """

    stub:
    """
    mkdir cohort
    touch cohort/result.h5ad cohort/domains.csv cohort/run.json
    """
}

// Give a section that was added later the domains of the cohort, without a new fit.
process ASSIGN {
    tag "${meta.section}"
    label 'process_low'
    publishDir params.outdir, mode: 'copy'

    input:
    tuple val(meta), path(section)
    path cohort

    output:
    tuple val(meta), path("${meta.section}"), emit: results

    script:
    """
    export OMP_NUM_THREADS=${task.cpus} MPLCONFIGDIR=./matplotlib NUMBA_CACHE_DIR=./numba
    stmmr map ${section} --model ${cohort} --output ${meta.section} --no-progress ${params.map_args}
    """

    stub:
    """
    mkdir ${meta.section}
    touch ${meta.section}/result.h5ad ${meta.section}/domains.csv ${meta.section}/run.json
    """
}

// Three small simulated sections, so that the test profile downloads nothing.
process SIMULATE {
    label 'process_low'

    input:
    val seed

    output:
    path "s${seed}.h5ad"

    script:
    """
    export MPLCONFIGDIR=./matplotlib NUMBA_CACHE_DIR=./numba
    python -c 'import stmmr; stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_genes=100, random_state=${seed}).write_h5ad("s${seed}.h5ad")'
    """

    stub:
    """
    touch s${seed}.h5ad
    """
}

workflow {
    if (params.simulate) {
        rows = SIMULATE(channel.of(0, 1, 2)).map { h5ad -> [[section: h5ad.baseName, added: h5ad.baseName == 's2' ? 'yes' : ''], h5ad] }
    } else {
        folder = file(params.input).parent
        rows = channel.fromPath(params.input)
            .splitCsv(header: true)
            .map { row -> [row, file(row.path.startsWith('/') ? row.path : "${folder}/${row.path}", checkIfExists: true)] }
    }
    PREPARE(rows)
    prepared = PREPARE.out.h5ad.branch { meta, _h5ad ->
        added: meta.added
        fitted: true
    }
    images = prepared.fitted
        .filter { meta, _h5ad -> meta.image }
        .map { meta, _h5ad -> file(meta.image.startsWith('/') ? meta.image : "${file(params.input).parent}/${meta.image}", checkIfExists: true) }

    // The sheet of the fit: the same columns, with the prepared files
    sheet = prepared.fitted
        .toSortedList { a, b -> a[0].section <=> b[0].section }
        .map { sections ->
            def columns = sections[0][0].keySet() - ['path', 'added']
            def lines = sections.collect { meta, h5ad ->
                ([h5ad.name] + columns.collect { name -> name == 'image' && meta.image ? "images/${file(meta.image).name}" : meta[name] }).join(',')
            }
            ([(['path'] + columns).join(',')] + lines).join('\n') + '\n'
        }
        .collectFile(name: 'samples.csv')

    FIT(sheet, prepared.fitted.map { _meta, h5ad -> h5ad }.collect(), images.collect().ifEmpty([]))
    ASSIGN(prepared.added, FIT.out.results.first())
}
