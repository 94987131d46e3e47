"""The doors: HTTP in, HTTP out."""

from typing import cast

from flask import current_app
from werkzeug.local import LocalProxy

from x402jobs.services import Services

services = cast(Services, LocalProxy(lambda: current_app.extensions["x402jobs"]))
"""The services of the application at hand."""
