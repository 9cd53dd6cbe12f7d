# syntax=docker/dockerfile:1
# The image is built in two stages: the first one makes a wheel and installs it with the pinned dependencies into a
# virtual environment, the second one gets that environment and nothing else: no compiler, no pip cache, no sources.
# The compiler is for the compiled scan, which makes decoding faster.

ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
# The digest of that tag's index of all architectures: no other image can take its place. Another PYTHON_IMAGE has
# another one, which `docker buildx imagetools inspect` tells; an empty one takes what the tag names today.
ARG PYTHON_DIGEST=sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

# hadolint ignore=DL3006 # the version is in the argument above
FROM ${PYTHON_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}} AS build
# More of the project's extras, with a comma between them: `cluster` for Dask, `demo` for the demo's S3 server.
ARG EXTRAS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
# hadolint ignore=DL3008 # the base image's Debian release decides
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY locks ./locks
# What comes from an index comes by its hash, the build's own tools too.
RUN python -m venv /tools \
    && /tools/bin/python -m pip install --require-hashes --no-deps --only-binary :all: --requirement locks/build.txt \
    && python -m venv /opt/cdn77-exporter \
    && IFS=, \
    && for lock in production ${EXTRAS}; do \
        /opt/cdn77-exporter/bin/python -m pip install --require-hashes --no-deps --only-binary :all: --requirement "locks/${lock}.txt" || exit 1; \
    done
COPY hatch_build.py pyproject.toml README.md LICENSE ./
COPY src ./src
# The wheel is installed by its path: its name means nothing to an index.
RUN /tools/bin/python -m pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
    && /opt/cdn77-exporter/bin/python -m pip install --no-deps --no-index /wheels/*.whl \
    && /opt/cdn77-exporter/bin/python -m pip check \
    && /opt/cdn77-exporter/bin/python -m pip uninstall --yes pip setuptools

# hadolint ignore=DL3006 # the version is in the argument above
FROM ${PYTHON_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}}
LABEL org.opencontainers.image.title="cdn77-exporter" \
      org.opencontainers.image.description="Turns CDN77 real-time logs in an S3 bucket into exact Prometheus metrics by remote write" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.3.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.14-slim-bookworm"
# A fixed number, so that a volume's owner can be set from outside and `runAsNonRoot` can be checked.
RUN groupadd --system --gid 10001 exporter \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/cdn77-exporter --shell /usr/sbin/nologin exporter \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/cdn77-exporter
COPY --from=build /opt/cdn77-exporter /opt/cdn77-exporter
# The root file system may be read-only: nothing is written but the state and, with DECODE_WORKERS or a GeoIP database,
# files in /tmp.
ENV PATH=/opt/cdn77-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATE_PATH=/var/lib/cdn77-exporter/state.db \
    HTTP_ADDR=0.0.0.0:9177
WORKDIR /var/lib/cdn77-exporter
VOLUME /var/lib/cdn77-exporter
USER 10001:10001
EXPOSE 9177
# SIGTERM drains; whoever stops the container must wait longer than DRAIN_SECONDS (25).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["python", "-m", "cdn77_exporter", "healthcheck"]
ENTRYPOINT ["python", "-m", "cdn77_exporter"]
