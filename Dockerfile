# The image of Responder. Two stages: the first has pip, the last has neither pip's cache nor a compiler.
# The base is named by version; pin its digest when you build for production (docker buildx imagetools inspect python:3.11-slim-bookworm).
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /opt/responder \
 && /opt/responder/bin/python -m pip install --require-hashes -r requirements/run.txt
COPY requirements/dev.txt requirements/dev.txt
RUN python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --require-hashes -r requirements/dev.txt
COPY pyproject.toml README.md LICENSE ./
COPY responder/ responder/
COPY rules/ rules/
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/responder/bin/python -m pip install --no-deps --no-index --find-links /wheels responder \
 && /opt/responder/bin/python -m compileall -q /opt/responder/lib

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Responder" \
      org.opencontainers.image.description="Turns an alert into a proven recovery on Kubernetes and AKS, or puts a person on the line." \
      org.opencontainers.image.licenses="Apache-2.0"
# HOME: UID 10001 is in no passwd file, and a library asks for a home directory at import.
ENV PATH=/opt/responder/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RESPONDER_CONFIG=/etc/responder/responder.yaml
COPY --from=build /opt/responder /opt/responder
RUN mkdir /data && chown 10001:10001 /data
# Nothing outside /data and /tmp is written: the root file system may be read-only.
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["responder"]
CMD ["serve"]
