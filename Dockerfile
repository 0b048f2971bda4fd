# The worker's image: `trailmend run` by default, any other command as arguments.
#   docker build -t trailmend . && docker run -e TRAILMEND_QUEUE_URL=... trailmend

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
# The base's own Debian has the compiler. Where it cannot be had the image lacks the compiled part, and the wheel's build says so.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev || true
RUN python3 -m venv /opt/trailmend && python3 -m venv /opt/build
COPY requirements.lock requirements-build.lock /src/
# Every package by its hash, and wheels alone: nothing is compiled but Trailmend.
RUN /opt/trailmend/bin/pip install --require-hashes --only-binary :all: -r /src/requirements.lock && \
    /opt/build/bin/pip install --require-hashes --only-binary :all: -r /src/requirements-build.lock
COPY pyproject.toml hatch_build.py README.md LICENSE /src/
COPY worker /src/worker
COPY deploy/cloudformation /src/deploy/cloudformation
RUN set -eu; \
    /opt/build/bin/pip wheel --verbose --no-index --no-deps --no-build-isolation --wheel-dir /dist /src; \
    /opt/trailmend/bin/pip install --no-index --no-deps /dist/*.whl; \
    /opt/trailmend/bin/pip uninstall --yes --quiet pip setuptools 2>/dev/null || true

FROM python:3.11-slim
RUN mkdir -p /var/lib/trailmend && chown 10001:10001 /var/lib/trailmend
COPY --from=build /opt/trailmend /opt/trailmend
ENV PATH=/opt/trailmend/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRAILMEND_STATE=sqlite:////var/lib/trailmend/state.db
USER 10001:10001
WORKDIR /var/lib/trailmend
VOLUME /var/lib/trailmend
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["trailmend"]
CMD ["run"]
