# Two images from one file: `operator` (podium) and `worker` (podium-worker). `make images` builds both.
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
COPY manifests/examples manifests/examples
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

FROM runtime AS worker
ENV WORKER_LISTEN=0.0.0.0:8080 \
    WORKER_DATA_DIR=/tmp/podium-data
ENTRYPOINT ["podium-worker"]
