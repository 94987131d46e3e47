"""Where contestants stand: one upstream for all, one core for servers and one for the load."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType

from benchmarks.contest import Contestant
from benchmarks.load import upstream
from benchmarks.processes import ProcessFailed, Service, free_port, gunicorn
from benchmarks.shop import GIFT, PATH, Shop, post

UNLIMITED = {
    "PAYER_CALLS_AT_ONCE": "100000",  # one wallet is the whole crowd's
    "SETTLEMENTS_AT_ONCE": "100000",
    "LIMIT_FREE_TEMPLATE": "off",
}
QUIET = {"HEARTBEAT_SECONDS": "3600", "CLAUDE_IDLE_SECONDS": "3600"}
"""For streams that are open and silent: what is measured then is a call's, and no ping's."""

_NGINX = """
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream claude {{
        server 127.0.0.1:{claude};
        keepalive 1024;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /healthz {{ return 200 ok; }}
        location / {{
            proxy_pass http://claude;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""
_LITELLM = """
model_list:
  - model_name: claude-benchmark
    litellm_params:
      model: anthropic/claude-benchmark
      api_base: http://127.0.0.1:{claude}
      api_key: sk-ant-benchmark
general_settings:
  master_key: sk-benchmark
"""


@dataclass(frozen=True)
class Stage:
    """What everybody stands on. Servers run while their `with` blocks do, one core for all."""

    directory: Path
    server_cores: list[int]
    load_cores: list[int]
    fake: Service

    def shop(
        self,
        kilobytes: Sequence[int] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Shop:
        """A shop with a ledger of its own, or in the environment's project; not served yet."""
        directory = Path(mkdtemp(prefix="shop-", dir=self.directory))
        return Shop.open(directory, kilobytes, environment)

    @contextmanager
    def product(self, shop: Shop, **environment: str) -> Iterator[Service]:
        """The product over this shop, with its own settings for gunicorn.

        Raises ProcessFailed when money has not moved once for each payment.
        """
        ours = {"X402JOBS_DATA": str(shop.data), **UNLIMITED, **environment}
        with self._gunicorn("product", ["-c", "gunicorn.conf.py", "wsgi:app"], ours) as service:
            yield service
        if (moved := shop.transfers()) != shop.signed:
            raise ProcessFailed(f"{shop.signed} payments were made, and money moved {moved} times")

    def relay(self, name: str) -> AbstractContextManager[Service]:
        """`benchmarks/NAME.py`, served as the product is."""
        arguments = ["-c", "benchmarks/relay_server.py", f"benchmarks.{name}:app"]
        return self._gunicorn(name, arguments, {})

    def nginx(self) -> Service:
        """`proxy_pass` to the upstream, unbuffered. Raises ProcessFailed where there is none."""
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise ProcessFailed("nginx is not on this machine")
        alone = ["-g", "daemon off; master_process off;"]
        return self._configured("nginx", program, _NGINX, lambda file, _: ["-c", file, *alone])

    def litellm(self, program: str) -> Service:
        """LiteLLM's proxy, from whichever environment it is installed in."""
        return self._configured(
            "litellm",
            program,
            _LITELLM,
            lambda file, port: ["--config", file, "--host", "127.0.0.1", "--port", port],
            {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # else it asks the internet for prices
        )

    def selling(self, name: str, service: Service, shop: Shop, path: str = PATH) -> Contestant:
        """The product, paid for every call."""
        return Contestant(
            name, service, self.fake, lambda orders: shop.requests(service.port, orders, path)
        )

    def asking(self, name: str, service: Service, path: str = "/relay") -> Contestant:
        """A relay that speaks as the product does and takes no payment."""
        return Contestant(
            name, service, self.fake, lambda orders: [(each, post(path, each)) for each in orders]
        )

    def giving(self, service: Service) -> Contestant:
        """The product, for nothing: no payment, a row at the end."""
        return self.asking("product, free", service, GIFT)

    def passing(self, name: str, service: Service) -> Contestant:
        """A relay that hands on Claude's own events."""
        return Contestant(
            name,
            service,
            self.fake,
            lambda orders: [(each, post("/v1/messages", each)) for each in orders],
            upstream,
        )

    def proxying(self, service: Service) -> Contestant:
        """LiteLLM's door for Anthropic's own format, which wants a whole request."""
        head = "Authorization: Bearer sk-benchmark\r\n"
        return Contestant(
            "litellm",
            service,
            self.fake,
            lambda orders: [
                (
                    each,
                    post(
                        "/v1/messages",
                        each,
                        head,
                        model="claude-benchmark",
                        max_tokens=4096,
                        stream=True,
                        messages=[{"role": "user", "content": str(each)}],
                    ),
                )
                for each in orders
            ],
            upstream,
        )

    @contextmanager
    def _gunicorn(
        self, name: str, arguments: list[str], environment: Mapping[str, str]
    ) -> Iterator[Service]:
        claude = {"CLAUDE_URL": f"http://127.0.0.1:{self.fake.port}", **environment}
        logs = Path(mkdtemp(prefix=f"{name}-", dir=self.directory))  # several may run at once
        with gunicorn(name, arguments, self.server_cores, logs, claude) as service:
            service.await_health()
            yield service

    def _configured(
        self,
        name: str,
        program: str,
        text: str,
        arguments: Callable[[str, str], list[str]],
        environment: Mapping[str, str] | None = None,
    ) -> Service:
        port, file = free_port(), self.directory / f"{name}.conf"
        file.write_text(text.format(directory=self.directory, port=port, claude=self.fake.port))
        return Service(
            name,
            arguments(str(file), str(port)),
            port,
            self.server_cores,
            self.directory / f"{name}.log",
            environment,
            program=[program],
        )


@contextmanager
def stage(directory: Path) -> Iterator[Stage]:
    """The upstream, and this process on its core."""
    cores = sorted(os.sched_getaffinity(0))
    server_cores, load_cores = (cores[:1], cores[1:2]) if len(cores) > 1 else (cores, cores)
    os.sched_setaffinity(0, load_cores)
    try:
        port = free_port()
        arguments, log = ["benchmarks.upstream", str(port)], directory / "upstream.log"
        with Service("upstream", arguments, port, load_cores, log) as fake:
            yield Stage(directory, server_cores, load_cores, fake)
    finally:
        os.sched_setaffinity(0, cores)
