# The worker's image: `trailmend run` by default, any other command as arguments.
#   docker build -t trailmend . && docker run -e TRAILMEND_QUEUE_URL=... trailmend

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python3 -m venv /opt/trailmend
COPY requirements.lock /src/
# Every package by its hash, and wheels alone: nothing is compiled here.
RUN /opt/trailmend/bin/pip install --require-hashes --only-binary :all: -r /src/requirements.lock
COPY worker /src/worker
COPY LICENSE /src/
RUN set -eu; \
    site="$(/opt/trailmend/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; \
    cp -r /src/worker "$site/worker"; \
    printf '#!/opt/trailmend/bin/python\nimport sys\nfrom worker.cli import main\nsys.exit(main())\n' >/opt/trailmend/bin/trailmend; \
    chmod 755 /opt/trailmend/bin/trailmend; \
    /opt/trailmend/bin/python -m compileall -q "$site/worker"; \
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
