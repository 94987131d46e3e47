"""An nginx that somebody has put in front of a shop to cache it, careless of what it sells."""

import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.nginx import TEMPORARY, running
from tests.waiting import eventually, free_port

CONFIGURATION = """
user {me};
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    {temporary}
    access_log off;
    # One key for one address, whoever asks and whatever they send; everything is worth keeping.
    # (The port is ours: two caches in one.)
    proxy_cache_path {directory}/cache keys_zone=answers:1m;
    proxy_cache answers;
    proxy_cache_key $server_port$request_uri;
    proxy_cache_methods GET HEAD POST;
    proxy_cache_valid any 1h;
    proxy_cache_lock on;
    proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504 http_429;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    add_header X-Cache $upstream_cache_status always;
    # Else it would keep no stream, for a reason that has nothing to do with who has paid.
    proxy_ignore_headers X-Accel-Buffering;
    server {{
        listen 127.0.0.1:{heeds};
        location / {{ proxy_pass http://127.0.0.1:{shop}; }}
    }}
    server {{
        listen 127.0.0.1:{deaf};
        proxy_ignore_headers X-Accel-Buffering Cache-Control Expires Vary Set-Cookie;
        location / {{ proxy_pass http://127.0.0.1:{shop}; }}
    }}
}}
"""


@dataclass(frozen=True)
class Cache:
    """The ports of one nginx: `heeds` what the shop says about keeping an answer, or is `deaf`."""

    heeds: int
    deaf: int


@contextmanager
def caching(directory: Path, shop: int) -> Iterator[Cache]:
    """The real nginx in front of the shop's port, as a process of ours."""
    directory.mkdir()
    cache = Cache(free_port(), free_port())
    temporary = " ".join(f"{name}_temp_path {directory}/{name};" for name in TEMPORARY)
    configuration = CONFIGURATION.format(
        me=pwd.getpwuid(os.getuid()).pw_name,
        directory=directory,
        temporary=temporary,
        shop=shop,
        heeds=cache.heeds,
        deaf=cache.deaf,
    )
    with running(directory, configuration):
        assert eventually(lambda: _listens(cache.deaf)), (directory / "error.log").read_text()
        yield cache


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
