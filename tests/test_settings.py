"""What the environment decides, and what it is told when it is wrong."""

from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from x402jobs.settings import GROUPS, POISON, Settings, SettingsError, env_example
from x402jobs.settings.page import settings_page
from x402jobs.stores import key_ring

CANARY = "canary-value"
ROOT = Path(__file__).parent.parent

WRONG = {
    "ENV": "staging",
    "SUPABASE_URL": f"http://{CANARY}.example",
    "SUPABASE_SECRET_KEY": f"sb_publishable_{CANARY}",
    "SUPABASE_JWT_SECRET": CANARY,
    "PUBLIC_URL": f"ftp://{CANARY}",
    "FRONTEND_ORIGINS": f"https://app.example,http://{CANARY}.example",
    "TRUSTED_PROXIES": f"10.0.0.1,{CANARY}",
    "REDIS_URL": f"redis://:{CANARY}@redis/0?socket_timeout=9",
    "LIMIT_OWNER_TEST": CANARY,
    "LIMIT_FREE_TEMPLATE": f"30 per {CANARY}",
    "LIMIT_FAILED_CREDENTIAL": f"20 per minute; {CANARY}",
    "LIMIT_TASK": f"on {CANARY}",
    "LIMIT_SESSION": "0 per minute",
    "LIMIT_API_KEY": f"20 per {CANARY}",
    "PAYER_CALLS_AT_ONCE": CANARY,
    "SETTLEMENTS_AT_ONCE": "-9",
    "X402JOBS_BIND": CANARY,
    "CLAUDE_URL": f"http://{CANARY}.example",
    "CLAUDE_CONNECT_SECONDS": CANARY,
    "CLAUDE_FIRST_CONTENT_SECONDS": "0",
    "CLAUDE_IDLE_SECONDS": "-5",
    "CLAUDE_TOTAL_SECONDS": "1e9",
    "FACILITATOR_URL": f"http://{CANARY}.example",
    "X402_NETWORKS": f"base,{CANARY}",
    "FACILITATOR_SETTLE_SECONDS": CANARY,
    "CHAIN_RPC_URL": f"https://node.example,{CANARY}=https://node.example",
    "CHAIN_CONFIRMATIONS": CANARY,
    "HEARTBEAT_SECONDS": "nan",
    "LOG_LEVEL": CANARY,
}


def refused(environ):
    with pytest.raises(SettingsError) as refusal:
        Settings.from_env(environ)
    return str(refusal.value).splitlines()


def test_an_empty_environment_is_the_defaults():
    assert Settings.from_env({}) == Settings()


def test_an_empty_value_means_the_default():
    empty = {each.metadata["variable"]: "" for each in fields(Settings)}

    assert Settings.from_env(empty) == Settings()


def test_every_fault_is_told_at_once_by_its_variable_and_never_by_its_value():
    faults = refused(WRONG | {name: CANARY for name in POISON})

    assert [fault.split(":")[0] for fault in faults] == [*WRONG, *POISON]
    assert CANARY not in "\n".join(faults)
    assert not any(
        value in faults[place] for place, value in enumerate(WRONG.values()) if value != "0"
    )


@pytest.mark.parametrize("name", POISON)
def test_what_the_vendors_package_would_obey_is_refused(name):
    (fault,) = refused({name: CANARY})

    assert fault.startswith(f"{name}: ")
    assert CANARY not in fault


URL = {"FACILITATOR_URL": "https://facilitator.example"}
BASE, PLAY = {"X402_NETWORKS": "base"}, {"X402_NETWORKS": "eip155:31337"}
TWO = {"X402_NETWORKS": "base,polygon"}
NODE = {"CHAIN_RPC_URL": "https://n.example"}
BOTH = "eip155:8453=https://n.example/a,polygon=https://n.example/b"
PRODUCTION = {"ENV": "production"}
TOGETHER: list[tuple[dict[str, str], list[str]]] = [
    # what is set, and which variables are named for it
    ({}, []),
    (URL | BASE, []),
    (URL | PLAY, []),
    (URL | BASE | PRODUCTION, ["CHAIN_RPC_URL"]),
    (URL | BASE | NODE | PRODUCTION, []),
    (URL, ["X402_NETWORKS"]),
    (BASE, ["X402_NETWORKS"]),
    (PLAY, ["X402_NETWORKS"]),
    (PRODUCTION, ["ENV"]),
    (PRODUCTION | URL, ["X402_NETWORKS"]),
    (PRODUCTION | BASE, ["X402_NETWORKS", "ENV"]),
    (PRODUCTION | PLAY, ["X402_NETWORKS", "ENV", "X402_NETWORKS"]),
    (PRODUCTION | URL | PLAY | NODE, ["X402_NETWORKS"]),
    (PRODUCTION | URL | {"X402_NETWORKS": "base,eip155:31337"}, ["X402_NETWORKS", "CHAIN_RPC_URL"]),
    (PRODUCTION | {"FACILITATOR_URL": "nowhere"}, ["FACILITATOR_URL"]),
    (URL | BASE | NODE, []),
    (URL | PLAY | NODE, []),
    (URL | TWO | {"CHAIN_RPC_URL": BOTH}, []),
    (URL | BASE | {"CHAIN_RPC_URL": BOTH}, []),
    (NODE, ["CHAIN_RPC_URL"]),
    (URL | TWO | NODE, ["CHAIN_RPC_URL"]),
    (URL | TWO | {"CHAIN_RPC_URL": "base=https://n.example"}, ["CHAIN_RPC_URL"]),
    (URL | BASE | {"CHAIN_RPC_URL": "polygon=https://n.example"}, ["CHAIN_RPC_URL"]),
]


@pytest.mark.parametrize(("environ", "named"), TOGETHER)
def test_settings_about_money_must_fit_together(environ, named):
    faults = refused(environ) if named else Settings.from_env(environ) and []

    assert [fault.split(":")[0] for fault in faults] == named


PROJECT = {"SUPABASE_URL": "https://ref.supabase.co", "SUPABASE_SECRET_KEY": "sb_secret_abc"}
RING = {"X402JOBS_KEYS": "k1:AAAA"}
LEGACY = {"SUPABASE_JWT_SECRET": "s" * 32}


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        (PROJECT, []),
        (PROJECT | LEGACY, []),
        (PROJECT | RING, []),
        (PROJECT | {"SUPABASE_SECRET_KEY": "eyJ.service_role.x"}, []),
        ({"SUPABASE_URL": PROJECT["SUPABASE_URL"]}, ["SUPABASE_SECRET_KEY"]),
        ({"SUPABASE_SECRET_KEY": "sb_secret_abc"}, ["SUPABASE_URL"]),
        (LEGACY, ["SUPABASE_JWT_SECRET"]),
        (PRODUCTION | URL | BASE | NODE | PROJECT, ["X402JOBS_KEYS"]),
        (PRODUCTION | URL | BASE | NODE | PROJECT | RING, []),
        (PROJECT | {"SUPABASE_SECRET_KEY": f"sb_publishable_{CANARY}"}, ["SUPABASE_SECRET_KEY"]),
        (PROJECT | {"SUPABASE_SECRET_KEY": f"{CANARY} "}, ["SUPABASE_SECRET_KEY"]),
        (PROJECT | {"SUPABASE_SECRET_KEY": f"{CANARY}\n"}, ["SUPABASE_SECRET_KEY"]),
        (PROJECT | {"SUPABASE_SECRET_KEY": f"ü{CANARY}"}, ["SUPABASE_SECRET_KEY"]),
        (PROJECT | {"SUPABASE_JWT_SECRET": f"{CANARY}"[:31]}, ["SUPABASE_JWT_SECRET"]),
        *(
            (PROJECT | {"SUPABASE_URL": url}, ["SUPABASE_URL"])
            for url in (
                "ref.supabase.co",
                "http://ref.supabase.co",
                "http://127.0.0.1.supabase.co",
                "ftp://ref.supabase.co",
                "https://",
                "https://ref.supabase.co/rest/v1",
                "https://ref.supabase.co/?a=b",
                "https://ref.supabase.co/#a",
                "https://ref.supabase.co:99999",
            )
        ),
    ],
)
def test_a_project_is_named_whole_and_where_its_key_is_safe(environ, named):
    faults = refused(environ) if named else Settings.from_env(environ) and []

    assert [fault.split(":")[0] for fault in faults] == named
    assert CANARY not in "\n".join(faults)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("https://ref.supabase.co", "https://ref.supabase.co"),
        ("https://ref.supabase.co/", "https://ref.supabase.co"),
        ("https://REF.Supabase.co:443", "https://ref.supabase.co"),
        ("http://127.0.0.1:54321/", "http://127.0.0.1:54321"),
        ("http://[::1]:54321", "http://[::1]:54321"),
        ("https://auth.shop.example:8443", "https://auth.shop.example:8443"),
    ],
)
def test_a_projects_url_is_read_as_its_tokens_name_it(url, read):
    settings = Settings.from_env(PROJECT | {"SUPABASE_URL": url})

    assert (settings.supabase_url, settings.is_embedded) == (read, False)
    assert Settings().is_embedded


def test_a_projects_secrets_do_not_show_themselves():
    shown = repr(Settings.from_env(PROJECT | {"SUPABASE_JWT_SECRET": CANARY * 4}))

    assert CANARY not in shown and "sb_secret_abc" not in shown


def test_what_production_needs_is_said():
    (fault,) = refused(PRODUCTION)

    assert fault == "ENV: production needs a facilitator; set FACILITATOR_URL and X402_NETWORKS"


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("base", ["eip155:8453"]),
        ("eip155:8453", ["eip155:8453"]),
        ("polygon,base", ["eip155:137", "eip155:8453"]),
        (" base , eip155:43114 ", ["eip155:8453", "eip155:43114"]),
        ("eip155:31337", ["eip155:31337"]),
    ],
)
def test_networks_are_read_in_their_order(value, ids):
    settings = Settings.from_env(URL | {"X402_NETWORKS": value})

    assert [network.id for network in settings.networks] == ids


@pytest.mark.parametrize(
    "value", ["base,base", "base,eip155:8453", "base,", ",", "Base", "solana", "8453", "eip155:1"]
)
def test_networks_that_are_unknown_or_named_twice_are_refused(value):
    (fault,) = refused(URL | {"X402_NETWORKS": value})

    assert fault.startswith("X402_NETWORKS: ") and "each once" in fault


def test_the_facilitators_url_does_not_show_itself():
    url = f"https://user:{CANARY}@facilitator.example/{CANARY}"

    assert CANARY not in repr(Settings.from_env(BASE | {"FACILITATOR_URL": url}))


@pytest.mark.parametrize(
    ("environ", "nodes"),
    [
        # one URL is the one network's, and is taken as it stands: a key may be anywhere in it
        (BASE | NODE, {"eip155:8453": "https://n.example"}),
        (BASE | {"CHAIN_RPC_URL": "http://[::1]:8545"}, {"eip155:8453": "http://[::1]:8545"}),
        (
            BASE | {"CHAIN_RPC_URL": "https://u:p@n.example/v2/k/?a=k=&b=2"},
            {"eip155:8453": "https://u:p@n.example/v2/k/?a=k=&b=2"},
        ),
        # several are told apart by either name of their network; the offered ones need one
        (
            TWO | {"CHAIN_RPC_URL": BOTH},
            {"eip155:8453": "https://n.example/a", "eip155:137": "https://n.example/b"},
        ),
        (
            BASE | {"CHAIN_RPC_URL": " base=https://n.example/?a=1 , polygon=https://p.example "},
            {"eip155:8453": "https://n.example/?a=1", "eip155:137": "https://p.example"},
        ),
        (BASE, {}),
    ],
)
def test_a_node_is_named_for_each_network(environ, nodes):
    assert Settings.from_env(URL | environ).nodes == nodes


@pytest.mark.parametrize(
    "value",
    [
        "n.example",
        "http://n.example",
        "http://127.0.0.1.example",
        "wss://n.example",
        "https://",
        "https://n.example/#k",
        "https://n.example:0",
        "https://n.example:99999",
        "https://n.example/a b",
        "https://a.example,https://b.example",
        "https://a.example,base=https://b.example",
        "base=https://a.example,eip155:8453=https://b.example",
        "base=",
        "eip155:1=https://n.example",
        "base=https://n.example,",
        ",",
    ],
)
def test_a_node_that_cannot_be_asked_is_refused(value):
    (fault,) = refused(URL | BASE | {"CHAIN_RPC_URL": value})

    assert fault.startswith("CHAIN_RPC_URL: a node to ask")


def test_a_network_without_a_node_is_named():
    (fault,) = refused(URL | TWO | {"CHAIN_RPC_URL": f"base=https://n.example/{CANARY}"})

    assert fault == "CHAIN_RPC_URL: names no node for eip155:137; add eip155:137=https://…"


@pytest.mark.parametrize(
    ("value", "depth"),
    [
        ("", None),
        ("0", 0),
        ("12", 12),
        ("9999", 9999),
        ("safe", "safe"),
        ("finalized", "finalized"),
    ],
)
def test_how_deep_a_payment_has_to_be_is_a_number_or_the_nodes_word(value, depth):
    assert Settings.from_env({"CHAIN_CONFIRMATIONS": value}).confirmations == depth


@pytest.mark.parametrize("value", ["-1", "01", "1.5", "1_0", "10000", "latest", "Safe", "٣", "1 2"])
def test_any_other_depth_is_refused(value):
    (fault,) = refused({"CHAIN_CONFIRMATIONS": value})

    assert fault.startswith("CHAIN_CONFIRMATIONS: ")


def test_a_nodes_url_does_not_show_itself():
    url = f"https://user:{CANARY}@n.example/{CANARY}?key={CANARY}"

    assert CANARY not in repr(Settings.from_env(URL | BASE | {"CHAIN_RPC_URL": url}))


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("X402JOBS_DATA", "/var/lib/x", "data", Path("/var/lib/x")),
        ("X402JOBS_KEYS", "k1:abc", "keys", "k1:abc"),
        ("INTEGRATION_ENCRYPTION_SECRET", " schlüssel ", "integration_secret", " schlüssel "),
        ("PUBLIC_URL", "https://jobs.example", "public_url", "https://jobs.example"),
        ("PUBLIC_URL", "https://jobs.example/", "public_url", "https://jobs.example"),
        ("X402JOBS_BIND", "0.0.0.0:80", "bind", "0.0.0.0:80"),
        ("X402JOBS_BIND", "unix:/run/x.sock", "bind", "unix:/run/x.sock"),
        ("CLAUDE_URL", "https://claude.example/v1/", "claude_url", "https://claude.example/v1"),
        ("CLAUDE_URL", "http://127.0.0.1:9", "claude_url", "http://127.0.0.1:9"),
        ("CLAUDE_URL", "http://localhost:9", "claude_url", "http://localhost:9"),
        ("CLAUDE_URL", "http://[::1]:9", "claude_url", "http://[::1]:9"),
        ("CLAUDE_IDLE_SECONDS", "0.5", "idle_seconds", 0.5),
        ("FACILITATOR_SETTLE_SECONDS", "120", "settle_seconds", 120.0),
        ("HEARTBEAT_SECONDS", "3600", "heartbeat_seconds", 3600.0),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("ENV", "development", "environment", "development"),
    ],
)
def test_a_setting_is_read(variable, value, name, expected):
    assert getattr(Settings.from_env({variable: value}), name) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ENV", "Production"),
        ("PUBLIC_URL", "jobs.example"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://jobs.example/shop"),
        ("PUBLIC_URL", "https://jobs.example?shop=1"),
        ("PUBLIC_URL", "https://jobs.example/?shop=1"),
        ("PUBLIC_URL", "https://jobs.example#shop"),
        ("PUBLIC_URL", "https://[jobs"),
        ("PUBLIC_URL", "https://jobs.example:99999"),
        ("X402JOBS_BIND", "4020"),
        ("X402JOBS_BIND", "localhost:"),
        ("X402JOBS_BIND", "localhost:http"),
        ("X402JOBS_BIND", "unix:"),
        ("FACILITATOR_URL", "http://facilitator.example"),
        ("FACILITATOR_URL", "facilitator.example"),
        ("FACILITATOR_URL", "https://facilitator.example?key=1"),
        ("FACILITATOR_SETTLE_SECONDS", "0"),
        ("INTEGRATION_ENCRYPTION_SECRET", "a byte that is no text: \udcff"),
        ("CLAUDE_URL", "http://claude.example"),
        ("CLAUDE_URL", "http://127.0.0.1.example"),
        ("CLAUDE_URL", "https://claude.example?x=1"),
        ("CLAUDE_URL", "https://claude.example#x"),
        ("CLAUDE_URL", "file:///etc/passwd"),
        ("CLAUDE_IDLE_SECONDS", "ten"),
        ("CLAUDE_IDLE_SECONDS", "inf"),
        ("CLAUDE_IDLE_SECONDS", "3601"),
        ("LOG_LEVEL", "TRACE"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(variable, value):
    (fault,) = refused({variable: value})

    assert fault.startswith(f"{variable}: ")


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", ()),
        ("https://app.example", ("https://app.example",)),
        (
            "https://app.example, https://b.example:8443",
            ("https://app.example", "https://b.example:8443"),
        ),
        ("http://localhost:3000,http://127.0.0.1", ("http://localhost:3000", "http://127.0.0.1")),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
        ("https://xn--bcher-kva.example", ("https://xn--bcher-kva.example",)),
    ],
)
def test_origins_are_read_as_browsers_write_them(value, origins):
    assert Settings.from_env({"FRONTEND_ORIGINS": value}).frontend_origins == origins


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "null",
        "app.example",
        "https://*.example",
        "http://app.example",
        "https://app.example/",
        "https://app.example/page",
        "https://app.example?x=1",
        "https://App.example",
        "HTTPS://app.example",
        "https://app.example:443",
        "http://localhost:80",
        "https://app.example:99999",
        "https://user@app.example",
        "https://bücher.example",
        "https://app.example,https://app.example",
        "https://app.example,",
        "https://app.example https://b.example",
        "file:///tmp",
    ],
)
def test_an_origin_that_no_browser_would_send_or_nobody_should_trust_is_refused(value):
    (fault,) = refused({"FRONTEND_ORIGINS": value})

    assert fault.startswith("FRONTEND_ORIGINS: ")


@pytest.mark.parametrize(
    ("url", "origin", "is_plain_loopback"),
    [
        ("https://Jobs.Example", "https://jobs.example", False),
        ("https://jobs.example:443/", "https://jobs.example", False),
        ("https://jobs.example:8443", "https://jobs.example:8443", False),
        ("https://127.0.0.1", "https://127.0.0.1", False),
        ("http://jobs.example", "http://jobs.example", False),
        ("http://localhost:80", "http://localhost", True),
        ("http://127.0.0.1:4020", "http://127.0.0.1:4020", True),
        ("http://[::1]:4020", "http://[::1]:4020", True),
    ],
)
def test_our_own_origin_is_as_browsers_write_it(url, origin, is_plain_loopback):
    settings = Settings.from_env({"PUBLIC_URL": url})

    assert (settings.public_origin, settings.is_plain_loopback) == (origin, is_plain_loopback)


@pytest.mark.parametrize(
    ("value", "proxies"),
    [
        ("", ()),
        ("10.0.0.1", (ip_network("10.0.0.1/32"),)),
        ("10.0.0.0/8, ::1", (ip_network("10.0.0.0/8"), ip_network("::1/128"))),
    ],
)
def test_proxies_are_addresses_and_networks(value, proxies):
    assert Settings.from_env({"TRUSTED_PROXIES": value}).trusted_proxies == proxies


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.1/8", "10.0.0", "*", "10.0.0.1,"])
def test_a_proxy_that_is_none_is_refused(value):
    (fault,) = refused({"TRUSTED_PROXIES": value})

    assert fault.startswith("TRUSTED_PROXIES: ")


@pytest.mark.parametrize("variable", ["X402JOBS_KEYS", "INTEGRATION_ENCRYPTION_SECRET"])
def test_a_secret_does_not_show_itself(variable):
    assert CANARY not in repr(Settings.from_env({variable: CANARY}))


@pytest.mark.parametrize("ring", [CANARY, f"k1:{CANARY}", "k1:ünïcode"])
def test_a_broken_key_ring_is_refused_by_its_variable_and_entry(ring):
    with pytest.raises(SettingsError) as refusal:
        key_ring(Settings.from_env({"X402JOBS_KEYS": ring}))

    assert str(refusal.value).startswith("X402JOBS_KEYS: key ring entry 1 ")
    assert CANARY not in str(refusal.value)


def test_the_example_environment_is_written_from_the_settings():
    assert (ROOT / ".env.example").read_text() == env_example()


def test_the_example_environment_says_every_setting_and_is_itself_good():
    lines = [line for line in env_example().splitlines() if line and not line.startswith("#")]
    environ = dict(line.split("=", 1) for line in lines)

    assert set(environ) == {each.metadata["variable"] for each in fields(Settings)}
    assert Settings.from_env(environ) == Settings()


def test_the_reference_is_written_from_the_settings():
    assert (ROOT / "docs/settings.md").read_text() == settings_page(), (
        "python -m x402jobs.settings.page > docs/settings.md"
    )


@pytest.mark.parametrize("about", [each.metadata for each in fields(Settings)])
def test_the_reference_says_of_every_setting_its_kind_and_whether_it_is_secret(about):
    _, _, rest = settings_page().partition(f"\n`{about['variable']}` (")
    entry = rest.partition("\n\n")[0]

    kind = entry.partition("; default")[0]
    assert about["group"] in GROUPS
    assert kind and kind == kind.strip(" .") and len(kind) < 80, "its reader's first line"
    assert ("**Secret.**" in entry) == about["secret"]
