# syntax=docker/dockerfile:1
# Two stages: the first compiles the lookup path.  The image contains the result, but no compiler, no build tools, no
# package cache and no database.  To run it, set ORACLE_DATABASE_URL and ORACLE_REDIS_URL.
#
#     docker build --tag alias-oracle:VERSION --build-arg VERSION=VERSION --build-arg REVISION=$(git rev-parse HEAD) .
#
# Base image: pinned by the digest of its index, which covers all architectures.  Take a newer one for each release:
#     docker buildx imagetools inspect python:3.13-slim
# Bill of materials: `docker buildx build --sbom=true --provenance=mode=max` attaches both to the image in a registry.
# For an image that is only here: `docker sbom alias-oracle:VERSION` or `syft alias-oracle:VERSION -o cyclonedx-json`.
# The packages of Python are those of requirements.lock, with their hashes.

ARG PYTHON_IMAGE=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /venv
# The dependencies first: they change less often than the code, and this layer is then taken from the cache.
COPY requirements.lock ./
RUN /venv/bin/pip install --require-hashes --only-binary :all: -r requirements.lock
# The build tools get an environment of their own, so that /venv does not contain them.  mypyc reads the types of the
# dependencies, so they are there as well.
COPY requirements-build.lock requirements-compile.lock ./
RUN python -m venv /build \
    && /build/bin/pip install --require-hashes --only-binary :all: \
       -r requirements.lock -r requirements-build.lock -r requirements-compile.lock
COPY setup.py pyproject.toml README.md LICENSE ./
COPY oracle ./oracle
COPY schemas ./schemas
# The build fails if the installed program would not run compiled.
RUN COMPILE_LOOKUP_PATH=1 /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /venv/bin/pip install --no-deps /wheels/*.whl \
    && cd / && /venv/bin/python -m oracle.compiled \
    && /venv/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="alias-oracle" \
      org.opencontainers.image.description="Alias directory oracle for Mojaloop hubs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# Root's group can write the directory, because OpenShift and others run a container as any user of that group.
RUN useradd --uid 1001 --gid 0 --no-create-home --shell /usr/sbin/nologin oracle \
    && install --directory --owner oracle --group 0 --mode 0770 /var/lib/oracle
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ORACLE_HUB_HOST=0.0.0.0 \
    ORACLE_ADMIN_HOST=0.0.0.0 \
    ORACLE_ACCOUNT_LOOKUP_HOST=0.0.0.0 \
    ORACLE_DATA_DIR=/var/lib/oracle \
    ORACLE_LOG_FORMAT=json
# The keys that sign history are here, unless ORACLE_AUDIT_KEY_FILE names another place: without them, a new container
# seals nothing.
VOLUME /var/lib/oracle
USER 1001
# 3000 the hub, 3001 people and Prometheus, 4002 DFSPs (off by default)
EXPOSE 3000 3001 4002
STOPSIGNAL SIGTERM
# It asks whether the processes run, not whether PostgreSQL does: without its database the service still answers from
# the cache, and a restart would not help.  It fits `serve --only` as well.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --start-interval=2s --retries=3 CMD ["oracle", "health"]
ENTRYPOINT ["oracle"]
CMD ["serve"]
