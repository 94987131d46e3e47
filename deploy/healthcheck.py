"""The image's health check: exits with 0 where the server says that it is well, else with 1."""

# The standard library alone: this is started four times a minute.
import os
import socket
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException

SECONDS = 4


def connected(bind: str) -> HTTPConnection:
    """A connection to where the server listens: past any proxy of the environment."""
    kind, _, path = bind.partition(":")
    if kind == "unix":
        connection = HTTPConnection("localhost", timeout=SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(SECONDS)
        connection.sock.connect(path)
        return connection
    host, _, port = bind.rpartition(":")
    return HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, int(port), timeout=SECONDS)


def main() -> None:
    try:
        with closing(connected(os.environ["X402JOBS_BIND"])) as connection:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        sys.exit(f"no answer: {type(error).__name__}")
    if status != 200:
        sys.exit(f"the answer was {status}")


if __name__ == "__main__":
    main()
