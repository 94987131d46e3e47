# x402jobs on one machine. Build: docker build -t x402jobs .
#
#   docker run -d -p 127.0.0.1:4020:4020 -v x402jobs:/data --stop-timeout 310 \
#     -e PUBLIC_URL=https://shop.example x402jobs
#
# The stop timeout is above gunicorn's graceful_timeout, so that open streams may finish.

# Any base with Python 3.11 or later and pip: a mirror of yours, or an image pinned by its digest.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /app
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# An environment of its own without pip: nothing in the running image installs anything.
RUN python -m venv --without-pip /opt/x402jobs && mkdir -m 700 /data
# The dependencies first, which change less often than the code: only the version is read of it.
COPY LICENSE README.md constraints.txt pyproject.toml setup.cfg ./
COPY x402jobs/__init__.py x402jobs/version.py ./x402jobs/
# Editable, because serving needs wsgi.py and gunicorn.conf.py beside the package.
RUN python -m pip --python /opt/x402jobs/bin/python install --constraint constraints.txt --editable .
COPY wsgi.py gunicorn.conf.py ./
COPY migrations ./migrations
COPY x402jobs ./x402jobs
# The running user may not write beside the code, and should not compile it at every start.
RUN /opt/x402jobs/bin/python -m compileall -q wsgi.py gunicorn.conf.py x402jobs

FROM ${BASE}
COPY --from=build /opt/x402jobs /opt/x402jobs
COPY --from=build /app /app
# A number, which every base knows and Kubernetes can tell from root.
COPY --from=build --chown=10001:10001 /data /data
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
# Without a shell or curl, and past any proxy of the environment. Bound elsewhere: --no-healthcheck.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 4020, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
# gunicorn's heartbeat in memory: a read-only root file system is enough, and a slow disk no outage.
CMD ["gunicorn", "--config", "gunicorn.conf.py", "--worker-tmp-dir", "/dev/shm", "wsgi:app"]
