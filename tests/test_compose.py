"""deploy/compose.yaml: three containers that may do little, around files that are ours."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.nginx import certificate
from tests.redis import redis_server
from tests.tools import need
from x402jobs.settings import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SHIPPED = (DEPLOY / "nginx.conf").read_text()
EACH = pytest.mark.parametrize("name", ["x402jobs", "nginx", "redis"])


def mounts(name: str) -> dict[str, str]:
    """What a service has mounted, by where."""
    # A source may have a colon of its own: ${CERTIFICATE:-./certificate.pem}.
    pairs = (re.fullmatch(r"(\$\{.*?\}|[^:]+):([^:]+)(:ro)?", each) for each in volumes(name))
    return {each[2]: each[1] for each in pairs if each}


def volumes(name: str) -> list[str]:
    found: list[str] = SERVICES[name].get("volumes", [])
    return found


def test_there_are_the_service_its_nginx_and_its_redis() -> None:
    assert SERVICES.keys() == {"x402jobs", "nginx", "redis"}


@EACH
def test_it_can_write_nowhere_and_gain_nothing(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert (service["cap_drop"], service.get("cap_add")) == (["ALL"], None)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == "10001:10001"
    assert not {"privileged", "pid", "ipc", "network_mode", "devices"} & service.keys()


@EACH
def test_it_cannot_take_the_whole_machine(name: str) -> None:
    service = SERVICES[name]

    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert all("size=" in each for each in service["tmpfs"])
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@EACH
def test_what_it_mounts_of_ours_is_there_and_cannot_be_written(name: str) -> None:
    for mount in volumes(name):
        source = mount.partition(":")[0]
        assert source in COMPOSE["volumes"] or mount.endswith(":ro"), mount
        if source.startswith("./"):
            assert (DEPLOY / source).is_file()


def test_nothing_but_nginx_is_to_be_reached_and_that_on_443() -> None:
    assert {name: each["ports"] for name, each in SERVICES.items() if "ports" in each} == {
        "nginx": ["443:443"]
    }


def test_redis_keeps_nothing_and_knows_nobody_but_the_service() -> None:
    redis = SERVICES["redis"]

    assert [name for name, each in SERVICES.items() if "counting" in each["networks"]] == [
        "x402jobs",
        "redis",
    ]
    assert COMPOSE["networks"]["counting"] == {"internal": True}
    assert redis["networks"] == ["counting"]
    assert volumes("redis") == []
    command = redis["command"]
    assert command[command.index("--save") + 1] == ""
    assert command[command.index("--appendonly") + 1] == "no"


def test_its_redis_takes_the_command(tmp_path: Path) -> None:
    """A word that is none of redis-server's would be told only when it starts."""
    program, *options = SERVICES["redis"]["command"]

    with redis_server(tmp_path / "redis", *options) as server, server.client as client:
        told = client.config_get("maxmemory*")

    assert program == "redis-server"
    assert (told["maxmemory"], told["maxmemory-policy"]) == (str(64 * 1024**2), "noeviction")


def test_the_service_gets_settings_that_are_settings() -> None:
    given = SERVICES["x402jobs"]["environment"] | {"PUBLIC_URL": "https://shop.example"}

    settings = Settings.from_env(given)

    assert given.keys() == {"PUBLIC_URL", "X402JOBS_BIND", "X402JOBS_DATA", "REDIS_URL"}
    assert settings.redis_url == "redis://redis:6379/0"
    assert str(settings.data) in mounts("x402jobs")


def test_secrets_are_the_services_alone_and_none_is_written_down() -> None:
    assert [name for name, each in SERVICES.items() if "env_file" in each] == ["x402jobs"]
    assert SERVICES["nginx"]["environment"] == {"PUBLIC_URL": "${PUBLIC_URL}"}
    assert "environment" not in SERVICES["redis"]
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert {*SERVICES["x402jobs"]["env_file"], "deploy/*.pem"} <= {*ignored}


def test_what_has_to_be_said_is_asked_for_and_the_rest_has_a_default() -> None:
    asked = re.findall(r"\$\{(\w+)(:[-?][^}]*)?\}", re.sub(r"#.*", "", TEXT))

    assert {name for name, default in asked if default.startswith(":?")} == {"PUBLIC_URL"}
    assert {name for name, default in asked if not default} == {"PUBLIC_URL"}


@pytest.mark.parametrize("name", ["x402jobs", "nginx"])
def test_open_streams_may_finish(name: str) -> None:
    assert SERVICES[name]["stop_grace_period"] == "310s"
    assert Settings().grace_seconds < 310


def test_the_socket_file_is_where_nginx_looks_for_it() -> None:
    bind = SERVICES["x402jobs"]["environment"]["X402JOBS_BIND"]
    directory = os.path.dirname(bind.removeprefix("unix:"))

    assert f"server {bind} " in SHIPPED
    assert mounts("x402jobs")[directory] == mounts("nginx")[directory] == "socket"
    owner = COMPOSE["volumes"]["socket"]["driver_opts"]["o"]
    assert "uid=10001,gid=10001,mode=0750" in owner


def test_nginx_has_the_shipped_configuration_and_the_certificate_where_it_is_looked_for() -> None:
    places = re.findall(r"^ *ssl_certificate(?:_key)? (\S+);", SHIPPED, re.MULTILINE)
    mounted = mounts("nginx")

    assert len(places) == 2 and mounted.keys() >= {*places}
    assert mounted["/etc/x402jobs/nginx.conf"] == "./nginx.conf"
    assert SERVICES["nginx"]["command"][-1] in mounted


def started(tmp_path: Path, public_url: str) -> subprocess.CompletedProcess[str]:
    """What deploy/nginx.sh does, up to nginx's own word on the configuration that it has made.

    Where it differs from the container: the places of mounts and of memory are this test's.
    """
    certificate_file = tmp_path / "c.pem"
    certificate_file.write_bytes(certificate())
    shipped = re.sub(r"/etc/x402jobs/certificate(-key)?\.pem", str(certificate_file), SHIPPED)
    (tmp_path / "shipped.conf").write_text(shipped)
    script = (DEPLOY / "nginx.sh").read_text().replace("/tmp/", f"{tmp_path}/")
    (tmp_path / "nginx.sh").write_text(script)
    path = f"{os.path.dirname(need('nginx'))}:{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", tmp_path / "nginx.sh", "-t"],
        env={"PATH": path, "PUBLIC_URL": public_url, "SHIPPED": str(tmp_path / "shipped.conf")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_nginx_takes_what_its_script_makes_of_the_shipped_configuration(tmp_path: Path) -> None:
    done = started(tmp_path, "https://prompts.example.org")

    made = (tmp_path / "nginx.conf").read_text().splitlines()
    shipped = (tmp_path / "shipped.conf").read_text().splitlines()
    changed = [new.strip() for old, new in zip(shipped, made, strict=True) if old != new]
    assert done.returncode == 0, done.stderr
    assert changed == [
        f"pid {tmp_path}/nginx.pid;  # yours",
        "error_log /dev/stderr crit;  # yours",
        "access_log /dev/stdout x402jobs;  # yours",
        "server_name prompts.example.org;  # yours",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:4020",
        "https://shop.example:8443",
        "https://",
        "https://a;b",
        "https://a/b",
    ],
)
def test_an_origin_that_nginx_would_not_answer_for_is_refused_by_name(
    tmp_path: Path, url: str
) -> None:
    done = started(tmp_path, url)

    assert done.returncode == 1
    assert done.stderr.startswith("PUBLIC_URL:")
