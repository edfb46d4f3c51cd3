# Images from one file: `operator` (podium) and `worker` (podium-worker), which `make images` builds, and
# `firmware-worker`, a worker that builds firmware, or does other tasks of manifests/firmware as WORKER_FUNCTIONS says:
# docker build --target firmware-worker .
#
# The base needs Python 3.11 or newer with pip. It may be any other: --build-arg BASE_IMAGE=debian-python:1
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS dependencies
WORKDIR /build
COPY pyproject.toml .
# Only what pyproject.toml pins decides about this layer: it is by far the largest, and seldom changes.
RUN python3 -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > pinned \
 && python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --target=/dependencies -r pinned \
 && find /dependencies -type d -name tests -prune -exec rm -r {} +

FROM ${BASE_IMAGE} AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY crds crds
COPY manifests manifests
COPY operator operator
COPY workers workers
RUN python3 -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir=/wheels . \
 && python3 -m pip install --no-index --disable-pip-version-check --root-user-action=ignore --no-deps --target=/podium /wheels/*.whl

FROM ${BASE_IMAGE} AS runtime
COPY --from=dependencies /dependencies /opt/podium/dependencies
COPY --from=wheel /podium /opt/podium/code
# /app is for the modules of those who build upon these images.
WORKDIR /app
ENV PATH=/opt/podium/code/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app:/opt/podium/code:/opt/podium/dependencies \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
# By number, so that a cluster can see that it is not root; in no password file of the base.
USER 65532:65532
EXPOSE 8080

FROM runtime AS operator
ENV PODIUM_LISTEN=0.0.0.0:8080 \
    PODIUM_LOG_FORMAT=json
ENTRYPOINT ["podium", "operator"]

FROM ${BASE_IMAGE} AS firmware-dependencies
WORKDIR /build
COPY pyproject.toml .
RUN python3 -c "import tomllib; extras = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; print(*(pin for extra in ('firmware', 's3', 'audio', 'patterns') for pin in extras[extra]), sep='\n')" > pinned \
 && python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --target=/dependencies -r pinned

FROM runtime AS firmware-worker
USER 0:0
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git openssh-client \
 && rm -rf /var/lib/apt/lists/*
COPY --from=firmware-dependencies /dependencies /opt/podium/firmware
ENV PYTHONPATH=/app:/opt/podium/code:/opt/podium/dependencies:/opt/podium/firmware \
    WORKER_FUNCTIONS=podium_workers.firmware \
    WORKER_LISTEN=0.0.0.0:8080 \
    WORKER_DATA_DIR=/tmp/podium-data
USER 65532:65532
ENTRYPOINT ["podium-worker"]

FROM runtime AS worker
ENV WORKER_LISTEN=0.0.0.0:8080 \
    WORKER_DATA_DIR=/tmp/podium-data
ENTRYPOINT ["podium-worker"]
