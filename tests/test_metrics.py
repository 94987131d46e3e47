"""What is counted: that it is, once, and under no name that a caller could choose."""

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests.conftest import RAIN, Shop, events
from tests.figures import grown, told
from x402jobs import metrics
from x402jobs.carried import carried
from x402jobs.devkit.claude_reply import deltas

PAGE = Path(__file__).parent.parent / "docs/metrics.md"
ROW = re.compile(r"^\| `(x402jobs_\w+)` \| (\w+) \| ([a-z, ]*) ?\| .+ \|$", re.MULTILINE)
WORDS = "Rain taps the window and nobody is home."


def ours() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Kind and labels of every metric, by the name that Prometheus knows it by."""
    kept = [each for each in vars(metrics).values() if hasattr(each, "_labelnames")]
    assert kept
    return {
        f"{each._name}_total" if each._type == "counter" else each._name: (
            each._type,
            tuple(each._labelnames),
        )
        for each in kept
    }


def test_the_page_has_every_metric_with_its_labels_and_no_other() -> None:
    told = ROW.findall(PAGE.read_text())

    page = {name: (kind, tuple(filter(None, labels.split(", ")))) for name, kind, labels in told}
    assert {
        name: (kind, tuple(each.strip() for each in labels))
        for name, (kind, labels) in page.items()
    } == ours()


def test_every_metric_of_ours_is_in_the_one_module() -> None:
    registered = {each.name for each in REGISTRY.collect() if each.name.startswith("x402jobs")}

    assert registered == {name.removesuffix("_total") for name in ours()}


def test_a_paid_call_is_counted_once_in_all_its_parts(shop: Shop) -> None:
    shop.claude.script({"text": WORDS, "usage": {"input_tokens": 30, "output_tokens": 12}})
    payment = shop.payment()

    with grown(shop.client) as more:
        reply = shop.client.post(shop.url, json=RAIN, headers=payment)
        said = events(reply)

    waits = [name for name in more if name.startswith("wait_seconds_count")]
    assert {name: more[name] for name in waits if "store" not in name} == {
        f'wait_seconds_count{{on="{on}"}}': 1
        for on in ("claude", "claude_answer", "facilitator_verify", "facilitator_settle", "chain")
    }
    assert more['wait_seconds_count{on="store"}'] > 3
    counted = {name: more[name] for name in more if "seconds" not in name}
    route = 'code="",method="POST",route="/@<username>/<slug>",status="200"'
    assert {name: value for name, value in counted.items() if not name.startswith(ELSE)} == {
        f"requests_total{{{route}}}": 1,
        'executions_total{code="",kind="paid",state="completed"}': 1,
        'deliveries_total{form="stream",outcome="whole"}': 1,
        "deltas_total": len(deltas(WORDS)),
        'tokens_total{direction="input"}': 30,
        'tokens_total{direction="output"}': 12,
        'settled_micro_usdc_total{network="eip155:31337"}': 10_000,
    }
    assert more['first_event_seconds_count{kind="paid"}'] == 1
    assert more['overhead_seconds_count{door="instant"}'] == 1
    assert said[-1]["type"] == "done"


ELSE = ("process_", "python_", "open_requests")
"""Not of the call: what prometheus-client tells of the process, and what the test keeps open."""


def test_a_replay_is_delivered_and_neither_run_nor_paid_again(shop: Shop) -> None:
    payment = shop.payment()
    events(shop.client.post(shop.url, json=RAIN, headers=payment))

    with grown(shop.client) as more:
        events(shop.client.post(shop.url, json=RAIN, headers=payment))

    assert more['deliveries_total{form="stream",outcome="whole"}'] == 1
    assert not [name for name in more if name.startswith(("executions", "settled", "tokens"))]


@pytest.mark.parametrize("form", ["stream", "json"])
def test_waiting_for_claude_is_not_our_overhead(shop: Shop, form: str) -> None:
    """Before the first content, between the words, and after the last of them."""
    stall = {"text": WORDS, "afterDeltas": 0, "stallSeconds": 0.4}
    shop.claude.script(stall | ({"deltaMs": 20} if form == "json" else {}))
    payment, query = shop.payment(), f"?stream={'true' if form == 'stream' else 'false'}"

    with grown(shop.client) as more:
        shop.client.post(shop.url + query, json=RAIN, headers=payment).get_data()

    first_event = more.get('first_event_seconds_sum{kind="paid"}')
    ours = more['overhead_seconds_sum{door="instant"}']
    claude = more['wait_seconds_sum{on="claude"}']
    assert claude >= 0.4
    if form == "stream":
        assert first_event is not None and ours <= first_event - claude
    else:
        answer = more['wait_seconds_sum{on="claude_answer"}']
        assert answer >= 0.02
        whole = shop.rows()[-1]["ended_at"] - shop.rows()[-1]["created_at"]
        assert ours <= whole - claude - answer + 0.2


def test_a_thread_that_works_for_a_request_waits_on_its_account() -> None:
    spent = metrics.Spent()
    metrics.account(spent)

    def work() -> None:
        with metrics.waiting("claude"):
            pass

    other = carried(work)
    metrics.account(None)
    other()

    assert spent.elsewhere > 0.0
    metrics.account(None)


def test_the_wait_for_the_store_is_ours() -> None:
    spent = metrics.Spent()
    metrics.account(spent)

    with metrics.waiting("store"):
        pass

    assert spent.elsewhere == 0.0
    metrics.account(None)


@pytest.mark.parametrize(
    ("method", "path", "label"),
    [
        ("GET", "/nothing/here", 'method="GET",route="none",status="404"'),
        ("BREW", "/healthz", 'method="other",route="none",status="405"'),
        ("GET", "/@nobody/nothing", 'method="GET",route="/@<username>/<slug>",status="404"'),
        ("POST", "/healthz", 'method="POST",route="none",status="405"'),
    ],
)
def test_no_label_is_a_callers_to_choose(shop: Shop, method: str, path: str, label: str) -> None:
    with grown(shop.client) as more:
        shop.client.open(path, method=method)

    (counted,) = [name for name in more if name.startswith("requests_total")]
    assert counted.endswith(f",{label}}}")


def test_what_claude_refuses_is_counted_with_its_code(shop: Shop) -> None:
    shop.claude.script({"status": 401})
    payment = shop.payment()

    with grown(shop.client) as more:
        shop.client.post(shop.url, json=RAIN, headers=payment)

    assert more['executions_total{code="INVALID_API_KEY",kind="paid",state="released"}'] == 1
    route = 'method="POST",route="/@<username>/<slug>",status="502"'
    assert more[f'requests_total{{code="INVALID_API_KEY",{route}}}'] == 1


def test_a_debt_is_counted_as_one_and_its_money_as_settled(shop: Shop) -> None:
    shop.claude.script({"text": WORDS, "cutAtByte": 900})
    payment = shop.payment()

    with grown(shop.client) as more:
        said = events(shop.client.post(shop.url, json=RAIN, headers=payment))

    code = "STREAM_INTERRUPTED"
    assert said[-1]["code"] == code
    assert more[f'executions_total{{code="{code}",kind="paid",state="refund_due"}}'] == 1
    assert more['settled_micro_usdc_total{network="eip155:31337"}'] == 10_000
    assert more['deliveries_total{form="stream",outcome="whole"}'] == 1


def test_who_is_over_a_limit_is_counted_by_its_name(shop: Shop) -> None:
    shop.publish(price=0)
    shop.claude.script(*[{"status": 401}] * 40)

    with grown(shop.client) as more:
        replies = [shop.client.post(shop.url, json=RAIN).status_code for _ in range(32)]

    assert more['limited_total{limit="free_template"}'] == replies.count(429) > 0


def test_a_stream_is_open_while_it_is_told(shop: Shop) -> None:
    def streams() -> float:
        return told(shop.client)["x402jobs_open_streams"]

    before = streams()

    reply = shop.client.post(shop.url, json=RAIN, headers=shop.payment(), buffered=False)
    during = streams()
    reply.get_data()

    assert (during - before, streams() - before) == (1, 0)
