"""The line gunicorn imports."""

from x402jobs.app import create_app

app = create_app()
