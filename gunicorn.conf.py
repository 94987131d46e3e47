"""How gunicorn serves x402jobs."""

import gc
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any


def _number(variable: str, default: int) -> int:
    """What is no number is refused, and by name, when the settings are read."""
    value = os.environ.get(variable) or ""
    return int(value) if value.isdecimal() else default


# Nothing of ours is imported here: what imports ssl before the worker has patched it breaks TLS.
bind = os.environ.get("X402JOBS_BIND") or "127.0.0.1:4020"
# A socket file is for the service's user and group: whoever can open it says who is calling.
umask = 0o007
# Who calls while a worker is exchanged waits here; with a socket file, one more is refused.
backlog = 2048

# The embedded store is one process's on purpose: SQLite waits in C, and everybody with it. Over a
# Supabase project any number of workers and machines share the ledger; a live stream is followed in
# its own worker alone, and elsewhere its payer hears 409 until it ends.
workers = _number("WEB_CONCURRENCY", 1) if os.environ.get("SUPABASE_URL") else 1
worker_class = "x402jobs.worker.Worker"  # gevent
# After a fork a connection to the store or to Claude would be two processes'.
preload_app = False
# Well above our own cap: beyond this one nobody is answered at all, health checks included. What is
# silent, or drips its head, is in it too, for as long as `keepalive`.
worker_connections = 2 * _number("MAX_OPEN_REQUESTS", 1500) + 1000
# A worker that was exchanged after so many requests would take its streams along.
max_requests = 0

# Streams are long: the worker's heartbeat is gevent's own, so this is no limit on them.
timeout = 60
graceful_timeout = _number("GRACE_SECONDS", 300)
# Also the limit on a request's head, and on a body that nobody has read.
keepalive = 5
# The heartbeat's file: on a disk, or on a root that is read-only, it could stop the worker.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None

# A header must not become a path, a scheme or an address.
forwarded_allow_ips = ""
forwarder_headers = ""
header_map = "refuse"
secure_scheme_headers = {}  # type: ignore[var-annotated]  # of what, an empty one need not say
proxy_protocol = False

limit_request_line = 4094
limit_request_fields = 50
limit_request_field_size = 8190

# gunicorn would open one in the home directory, shared by every instance.
control_socket_disable = True
accesslog = None


def on_starting(server: Any) -> None:
    """Ask for as many open files as the worker may need; many systems begin with 1024.

    A stream has two, its caller's and Claude's. And write no memory to a disk when something
    crashes: keys and prompts are in it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wanted = 2 * server.cfg.worker_connections + 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        server.log.warning("Open files are limited to %d; %d may be needed", hard, wanted)
        wanted = hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if server.cfg.workers > 1 and not os.environ.get("REDIS_URL"):
        several = "REDIS_URL is not set: each of %d workers counts limits for itself"
        server.log.warning(several, server.cfg.workers)
    # The worker before a HUP and the one after it count together (docs/decisions/0017): afresh for
    # each master, else a count would go on where an earlier service has left it. In memory: where a
    # disk is full, the next figure would end the worker with SIGBUS, its streams along with it.
    beside = Path(server.cfg.worker_tmp_dir or tempfile.gettempdir())
    for left in beside.glob("x402jobs-metrics-*"):
        _remove_if_dead(left)
    prefix = f"x402jobs-metrics-{os.getpid()}-"
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix=prefix, dir=beside)


def _remove_if_dead(left: Path) -> None:
    """Of a master that was killed: it could not clear up."""
    try:
        if left.stat().st_uid == os.geteuid():
            os.kill(int(left.name.split("-")[2]), 0)
    except ProcessLookupError:
        shutil.rmtree(left, ignore_errors=True)
    except (OSError, ValueError, IndexError):
        return  # somebody else's, or gone meanwhile


def child_exit(_: Any, worker: Any) -> None:
    """What a worker has counted stays; what it was doing (gauge_live…) is over.

    prometheus-client's `mark_process_dead`, which cannot be imported here: it brings ssl along.
    """
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob(f"gauge_live*_{worker.pid}.db"):
        file.unlink(missing_ok=True)


def on_exit(_: Any) -> None:
    """Leave nothing behind in memory."""
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)


def post_fork(_: Any, __: Any) -> None:
    """Look for no rubbish among modules, which all stay: that was a quarter of a start."""
    gc.disable()


def post_worker_init(worker: Any) -> None:
    """Let the worker beat, recover and drain beside its requests (services/caretaker.py)."""
    gc.freeze()
    gc.enable()
    services = worker.wsgi.extensions["x402jobs"]
    grace = worker.cfg.graceful_timeout - worker.closing_seconds
    services.caretaker.start(lambda: worker.takes_requests, grace)
    services.readiness.start()
