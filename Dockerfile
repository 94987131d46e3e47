# x402jobs on one machine. Build: docker build --tag x402jobs .   (or podman, or buildah)
#
#   docker run --detach --publish 127.0.0.1:4020:4020 --volume x402jobs:/data --stop-timeout 310 \
#     --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     --env PUBLIC_URL=https://shop.example x402jobs
#
# The stop timeout is above the grace period (GRACE_SECONDS), so that open streams may finish. Behind
# nginx on the same machine a socket file is better than a port: deploy/compose.yaml.
#
# `make image-test` builds it and buys an answer from it.

# Any base with Python 3.11 or later, its venv and pip, over the GNU C library: a mirror of yours, or
# an image pinned by its digest.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /app
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# An environment of its own without pip.
RUN python -m venv --without-pip /opt/x402jobs && mkdir /data /socket
# The dependencies first, which change less often than the code. A wheel whose bytes are not those
# that were locked ends the build, and so does a package that would have to be built from source.
COPY deploy/requirements.lock deploy/build.lock ./
RUN python -m pip --python /opt/x402jobs/bin/python install \
        --require-hashes --only-binary :all: --requirement requirements.lock \
    && python -m pip --python /opt/x402jobs/bin/python install --target /opt/build \
        --require-hashes --only-binary :all: --requirement build.lock
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY migrations ./migrations
COPY x402jobs ./x402jobs
# Editable, because serving needs wsgi.py and gunicorn.conf.py beside the package. What builds it
# stays in this stage.
RUN PYTHONPATH=/opt/build python -m pip --python /opt/x402jobs/bin/python install \
        --no-index --no-deps --no-build-isolation --editable .
COPY wsgi.py gunicorn.conf.py deploy/healthcheck.py ./
# The running user may not write beside the code, and should not compile it at every start.
RUN /opt/x402jobs/bin/python -m compileall -q wsgi.py gunicorn.conf.py healthcheck.py x402jobs

FROM ${BASE}
ARG BASE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="x402jobs" \
      org.opencontainers.image.description="Sell a Claude prompt by the call: x402 payments in, streamed answers out." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
# What the base installs packages with, spare copies included: nothing here installs anything more.
RUN find / -xdev -regextype posix-extended -regex \
        '.*/(bin/pip[0-9.]*|ensurepip|share/python-wheels|[a-z]+-packages/(pip|setuptools|wheel|pkg_resources|_distutils_hack|distutils-precedence)[^/]*)' \
        -prune -exec rm -rf {} +
COPY --from=build /opt/x402jobs /opt/x402jobs
COPY --from=build /app /app
# A number, which every base knows and Kubernetes can tell from root.
COPY --from=build --chown=10001:10001 /data /data
COPY --from=build --chown=10001:10001 /socket /run/x402jobs
USER 10001:10001
WORKDIR /app
ENV PATH=/opt/x402jobs/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    X402JOBS_BIND=0.0.0.0:4020 \
    X402JOBS_DATA=/data
# The store, its keys and the token secret. Whoever loses them loses the creators' keys.
VOLUME /data
EXPOSE 4020
STOPSIGNAL SIGTERM
# Wherever X402JOBS_BIND lets the server listen, without a shell or curl, and past any proxy.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "healthcheck.py"]
CMD ["gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"]
