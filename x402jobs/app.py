"""The application: settings in, services built, doors hung."""

from flask import Flask
from werkzeug.routing import BaseConverter

from x402jobs.blueprints import (
    admission,
    cors,
    errors,
    executions,
    identity,
    instant,
    integrations,
    json_reply,
    listings,
    operations,
    resources,
    tasks,
    tiles,
)
from x402jobs.domain.secret import Secret
from x402jobs.logs import configure_logs
from x402jobs.services import Services
from x402jobs.settings import Settings
from x402jobs.wiring import build_services


class Name(BaseConverter):
    """Part of a path. No name has a NUL in it, and Postgres cannot even be asked for one."""

    part_isolating = True
    regex = r"[^/\x00]+"


def create_app(settings: Settings | None = None, services: Services | None = None) -> Flask:
    """Build the application for these settings, by default the environment's.

    Starts no thread and opens no socket, so that a server may fork afterwards.
    """
    settings = settings or Settings.from_env()
    configure_logs(settings.log_level)
    app = Flask("x402jobs", static_folder=None)
    # A doubled slash would be answered with a redirect to whatever Host the request named.
    app.url_map.merge_slashes = False
    app.url_map.converters["default"] = Name
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's own provider has it
    app.config["HEARTBEAT_SECONDS"] = settings.heartbeat_seconds
    app.config["JSON_SECONDS"] = json_reply.PATIENCE_SECONDS
    app.config["OUR_ORIGINS"] = (settings.public_origin, *settings.frontend_origins)
    app.config["FRONTEND_ORIGINS"] = settings.frontend_origins
    app.config["METRICS_TOKEN"] = Secret(settings.metrics_token) if settings.metrics_token else None
    app.config["MAX_OPEN_REQUESTS"] = settings.max_open_requests
    app.config["TRUSTED_PROXIES"] = settings.trusted_proxies
    app.config["PLAIN_LOOPBACK"] = settings.is_plain_loopback
    app.config["SESSION_COOKIE_SECURE"] = not settings.is_plain_loopback
    app.extensions["x402jobs"] = services or build_services(settings)
    errors.install(app)
    cors.install(app)
    admission.install(app)
    for door in (
        instant,
        resources,
        tiles,
        tasks,
        listings,
        integrations,
        executions,
        identity,
        operations,
    ):
        app.register_blueprint(door.bp)
    return app
