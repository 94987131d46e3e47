"""Sell a Claude prompt by the call: x402 payments in, streamed answers out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from x402jobs.services import Services
    from x402jobs.settings import Settings


def create_app(settings: "Settings | None" = None, services: "Services | None" = None) -> "Flask":
    """The application: settings in, services built, doors hung.

    Starts no thread and opens no socket, so that a server may fork afterwards. The imports wait
    until here: the command's help would spend two seconds on them, and gunicorn reads its
    configuration, which needs the settings, before gevent has patched the standard library.
    """
    from flask import Flask

    from x402jobs.blueprints import cors, errors, instant, operations
    from x402jobs.logs import configure_logs
    from x402jobs.settings import Settings
    from x402jobs.wiring import build_services

    settings = settings or Settings.from_env()
    configure_logs(settings.log_level)
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's own provider has it
    app.config["HEARTBEAT_SECONDS"] = settings.heartbeat_seconds
    app.extensions["x402jobs"] = services or build_services(settings)
    errors.install(app)
    cors.install(app)
    app.register_blueprint(instant.bp)
    app.register_blueprint(operations.bp)
    return app
