"""The line gunicorn imports."""

from x402jobs import create_app

app = create_app()
