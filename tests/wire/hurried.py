"""The line gunicorn imports where a test cannot wait as long as a server should."""

from x402jobs import worker
from x402jobs.app import create_app

worker.BODY_SECONDS = worker.WRITE_SECONDS = 1.0

app = create_app()
