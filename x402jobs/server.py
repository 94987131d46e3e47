"""How the server is started: gunicorn, with the files that lie beside the package."""

import sys
from pathlib import Path

from x402jobs.settings import SettingsError

EVERYWHERE = ("0.0.0.0", "")


def checkout() -> Path:
    """The directory of wsgi.py and gunicorn.conf.py. Raises SettingsError when they are missing."""
    found = Path(__file__).resolve().parent.parent
    for name in ("wsgi.py", "gunicorn.conf.py"):
        if not (found / name).is_file():
            raise SettingsError(
                f"{name} is not beside the package, in {found}. Serving needs a checkout: "
                "clone the repository and install it with pip install -e ."
            )
    return found


def command(*options: str) -> list[str]:
    """Gunicorn's command line, to be run in the checkout."""
    return [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", *options, "wsgi:app"]


def url_of(bind: str) -> str:
    """The origin of a server that listens on `host:port`, as this machine sees it."""
    host, _, port = bind.rpartition(":")
    return f"http://{'127.0.0.1' if host in EVERYWHERE else host}:{port}"
