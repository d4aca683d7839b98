# The service as an image: the package, built from this checkout, in a virtual environment of its own.

FROM python:3.13-slim AS build
WORKDIR /checkout
# The tools stay here: what is shipped has neither pip nor a build backend.
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/openaibatching
# What is installed is what these files name, byte for byte (`make lock` writes them).
COPY deploy/build.lock deploy/requirements.lock deploy/
RUN /tools/bin/pip install --quiet --no-cache-dir --require-hashes -r deploy/build.lock \
 && /tools/bin/pip --python /opt/openaibatching/bin/python install --quiet --no-cache-dir \
    --require-hashes --only-binary :all: -r deploy/requirements.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY src src
RUN /tools/bin/pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /tools/bin/pip --python /opt/openaibatching/bin/python install --quiet --no-cache-dir \
    --no-deps /wheel/*.whl

FROM python:3.13-slim
LABEL org.opencontainers.image.title="openaibatching" \
      org.opencontainers.image.description="OpenAI's half-price Batch API behind the ordinary call" \
      org.opencontainers.image.licenses="MIT"
# The name is the one under which the embedded PostgreSQL runs when the service is started as root.
# The openai package trusts the system's certificates, so without any a build has to stop here.
RUN groupadd --gid 9487 openaibatching \
 && useradd --uid 9487 --gid 9487 --no-log-init --no-create-home --home-dir /data openaibatching \
 && install --directory --owner=openaibatching --group=openaibatching --mode=0700 /data \
 && python3 -c "import ssl; assert ssl.create_default_context().cert_store_stats()['x509_ca']"
COPY --from=build /opt/openaibatching /opt/openaibatching
COPY deploy/healthcheck.py /opt/openaibatching/healthcheck.py
ENV PATH=/opt/openaibatching/bin:$PATH \
    HOST=0.0.0.0 \
    DATA_DIR=/data
# A number, so that Kubernetes can tell that it is not root.
USER 9487:9487
WORKDIR /data
# The embedded PostgreSQL, and batch files while they are uploaded.
VOLUME /data
EXPOSE 9487
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "/opt/openaibatching/healthcheck.py"]
# As a list, so that no shell stands between `docker stop` and the service.
ENTRYPOINT ["openaibatching"]
CMD ["serve"]
