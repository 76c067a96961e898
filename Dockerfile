# stmmr for the CPU; the build ends with a run of the demo.
#   docker build --tag stmmr-kit .                                    further packages: --build-arg EXTRAS=leiden,spatialdata
#   docker run --rm --user "$(id -u)" --volume "$PWD":/data stmmr-kit stmmr run outs --output result
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE CHANGELOG.md CITATION.cff ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG EXTRAS=""
# of torch, which some extras need, the build without CUDA
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
LABEL org.opencontainers.image.title="stmmr" \
      org.opencontainers.image.description="Spatial domains from counts, coordinates and histology" \
      org.opencontainers.image.source="https://github.com/stmmr/stmmr-kit" \
      org.opencontainers.image.licenses="MIT"
# Nextflow measures its tasks with ps
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends procps && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    --mount=type=bind,source=requirements.txt,target=/requirements.txt \
    pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" --constraint /requirements.txt \
    "$(echo /wheels/stmmr_kit-*.whl)${EXTRAS:+[${EXTRAS}]}"
# Any user may run the image, also one without a home: compiled functions and fonts are kept where all can write.
ENV HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    PYTHONUNBUFFERED=1
RUN useradd --uid 1000 --no-create-home stmmr && mkdir /data && chown stmmr /data
USER 1000
RUN stmmr demo --output /tmp/demo \
    && test -s /tmp/demo/domains.csv \
    && test -s /tmp/demo/report.html \
    && find /tmp -mindepth 1 -user 1000 -delete
WORKDIR /data
# no ENTRYPOINT: workflow managers start a shell in the image
CMD ["stmmr", "--help"]
