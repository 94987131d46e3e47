"""How gunicorn serves x402jobs."""

import os
from typing import Any

# Nothing of ours is imported here: what imports ssl before the worker has patched it breaks TLS.
bind = os.environ.get("X402JOBS_BIND") or "127.0.0.1:4020"

# The embedded store is one process's on purpose: SQLite waits in C, and everybody with it. Over a
# Supabase project any number of workers and machines share the ledger; a live stream is followed in
# its own worker alone, and elsewhere its payer hears 409 until it ends.
workers = int(os.environ.get("WEB_CONCURRENCY") or 1) if os.environ.get("SUPABASE_URL") else 1
worker_class = "x402jobs.worker.Worker"  # gevent
worker_connections = 4000

# Streams are long: the worker's heartbeat is gevent's own, so this is no limit on them.
timeout = 60
graceful_timeout = 300
keepalive = 5

# A header must not become a path, a scheme or an address.
forwarded_allow_ips = ""
forwarder_headers = ""
header_map = "refuse"
secure_scheme_headers = {}  # type: ignore[var-annotated]

limit_request_line = 4094
limit_request_fields = 50
limit_request_field_size = 8190

# gunicorn would open one in the home directory, shared by every instance.
control_socket_disable = True
accesslog = None


def post_worker_init(worker: Any) -> None:
    """Let the worker beat, recover and drain beside its requests (services/caretaker.py)."""
    caretaker = worker.wsgi.extensions["x402jobs"].caretaker
    caretaker.start(lambda: worker.alive, worker.cfg.graceful_timeout)
