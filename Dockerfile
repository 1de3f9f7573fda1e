# syntax=docker/dockerfile:1
# Two stages: the image contains no compiler, no build tools, no package cache and no database.  To run it, set
# ORACLE_DATABASE_URL and ORACLE_REDIS_URL.

FROM python:3.13-slim AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
# The dependencies first: they change less often than the code, and this layer is then taken from the cache.
COPY requirements.lock ./
RUN /venv/bin/pip install --require-hashes --only-binary :all: -r requirements.lock
COPY requirements-build.lock pyproject.toml README.md LICENSE ./
COPY oracle ./oracle
COPY schemas ./schemas
# The build tools get an environment of their own, so that /venv does not contain them.
RUN python -m venv /build \
    && /build/bin/pip install --require-hashes --only-binary :all: -r requirements-build.lock \
    && /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /venv/bin/pip install --no-deps /wheels/*.whl \
    && /venv/bin/pip uninstall --yes pip

FROM python:3.13-slim
LABEL org.opencontainers.image.title="alias-oracle" \
      org.opencontainers.image.description="Alias directory oracle for Mojaloop hubs" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 1001 --no-create-home --shell /usr/sbin/nologin oracle \
    && install --directory --owner oracle --mode 0700 /var/lib/oracle
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ORACLE_HUB_HOST=0.0.0.0 \
    ORACLE_ADMIN_HOST=0.0.0.0 \
    ORACLE_DATA_DIR=/var/lib/oracle \
    ORACLE_LOG_FORMAT=json
# The keys that sign history are here: without them, a new container seals nothing.
VOLUME /var/lib/oracle
USER 1001
EXPOSE 3000 3001
STOPSIGNAL SIGTERM
# /live, not /health: without its database the service still answers from the cache, and a restart would not help.
HEALTHCHECK --interval=5s --timeout=2s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('ORACLE_HUB_PORT', '3000')}/live\", timeout=1)"]
ENTRYPOINT ["oracle"]
CMD ["serve"]
