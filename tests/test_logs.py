"""A log line says ids, states and numbers, and never a key, a prompt or an answer."""

import ast
import io
import json
import logging
import threading
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import structlog

from x402jobs.carried import carried
from x402jobs.logs import FIELDS, begin_request, configure_logs, name_execution

CANARY = "sk-ant-canary"
VENDORS = [
    *("anthropic", "hpack", "httpcore", "httpcore2", "httpx", "httpx2", "postgrest", "psycopg"),
    *("supabase", "web3", "x402"),
]


@pytest.fixture(autouse=True)
def as_they_were():
    """Logging belongs to the whole process: leave it as it was found."""
    loggers = [logging.getLogger(name) for name in (None, "x402jobs", "gunicorn.error", *VENDORS)]
    before = [(each.level, each.handlers[:], each.filters[:]) for each in loggers]
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()
    for each, (level, handlers, filters) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.handlers[:], each.filters[:] = handlers, filters


class Written:
    """What is written to standard error, once logs have been configured to go there."""

    def __init__(self) -> None:
        self._stream = io.StringIO()

    def configure(self, level):
        with redirect_stderr(self._stream):
            configure_logs(level)

    def __call__(self):
        """The lines since the last look, each read as JSON."""
        said = [json.loads(line) for line in self._stream.getvalue().splitlines()]
        self._stream.seek(0)
        self._stream.truncate()
        return said


@pytest.fixture
def lines():
    written = Written()
    written.configure("DEBUG")
    return written


def test_a_line_is_one_json_object(lines):
    structlog.get_logger("x402jobs.services.runs").info("run_ended", execution_id="e1", state="x")

    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "run_ended",
        "level": "info",
        "logger": "x402jobs.services.runs",
        "execution_id": "e1",
        "state": "x",
    }


@pytest.mark.parametrize("name", ["prompt", "key", "answer", "payment", "headers", "exc", "stack"])
def test_a_field_that_is_not_listed_is_dropped(lines, name):
    structlog.get_logger("x402jobs").warning("refused", **{name: CANARY}, code="X")

    (line,) = lines()
    assert CANARY not in json.dumps(line)
    assert line["code"] == "X"
    assert set(line) <= FIELDS


def test_an_exception_is_told_by_its_kind_and_place_and_never_by_its_text(lines):
    log = structlog.get_logger("x402jobs")
    try:
        json.loads(f'{{"{CANARY}": ')
    except ValueError as error:
        log.exception("broke")
        log.error("broke", exc_info=error)

    once, again = lines()
    for line in (once, again):
        assert CANARY not in json.dumps(line)
        assert line["exception_type"] == "JSONDecodeError"
        assert line["exception_place"].endswith(" raw_decode")


def test_an_exception_that_was_never_raised_has_no_place(lines):
    structlog.get_logger("x402jobs").error("broke", exc_info=ValueError(CANARY))
    structlog.get_logger("x402jobs").error("broke", exc_info=False)

    raised, without = lines()
    assert raised["exception_type"] == "ValueError"
    assert "exception_place" not in raised
    assert "exception_type" not in without


@pytest.mark.parametrize(
    "vendor", [f"{name}{below}" for name in VENDORS for below in ("", "._base")]
)
def test_a_vendor_says_nothing_below_a_warning_and_then_only_its_name(lines, vendor):
    log = logging.getLogger(vendor)
    log.debug("Request options: %s", {"api_key": CANARY})
    log.info("HTTP Request: %s", CANARY)
    assert lines() == []

    log.warning("Retrying with key %s", CANARY)
    log.error(CANARY, exc_info=ValueError(CANARY))

    assert lines() == [
        {"event": "vendor_log", "logger": vendor, "level": "warning"},
        {"event": "vendor_log", "logger": vendor, "level": "error"},
    ]


def test_the_level_decides_what_is_written(lines):
    lines.configure("WARNING")
    log = structlog.get_logger("x402jobs.services")
    log.debug("quiet")
    log.info("quiet")
    log.warning("loud")

    assert [line["event"] for line in lines()] == ["loud"]


def test_configuring_twice_writes_each_line_once(lines):
    lines.configure("DEBUG")

    structlog.get_logger("x402jobs").info("once")

    assert [line["event"] for line in lines()] == ["once"]


@pytest.mark.parametrize(
    ("message", "begins"),
    [
        ("Invalid request from ip=%s: %s", "Invalid request"),
        ("Error handling request %s", "Error handling request"),
        ("Socket error processing request. %s", "Socket error"),
    ],
)
def test_a_request_the_server_cannot_read_is_not_written_down(lines, message, begins):
    log = logging.getLogger("gunicorn.error")
    handler = logging.StreamHandler()
    log.addHandler(handler)
    arguments = (CANARY,) * message.count("%s")
    heard = []
    handler.emit = lambda record: heard.append(handler.format(record))

    log.warning(message, *arguments)
    log.warning(message, *arguments, exc_info=(ValueError, ValueError(CANARY), None))
    log.warning("Worker exiting (pid: %s)", 5)

    assert heard == [f"{begins}: malformed", f"{begins}: ValueError", "Worker exiting (pid: 5)"]
    assert CANARY not in json.dumps(lines())


# Ids on every line


def test_a_line_has_the_ids_of_the_request_it_is_about(lines):
    begin_request("req_1")
    structlog.get_logger("x402jobs").info("before")
    name_execution("e1")
    structlog.get_logger("x402jobs").info("after")
    logging.getLogger("anthropic").warning("Retrying with key %s", CANARY)
    begin_request("req_2")
    structlog.get_logger("x402jobs").info("another")

    said = [(line["event"], line.get("request_id"), line.get("execution_id")) for line in lines()]
    assert said == [
        ("before", "req_1", None),
        ("after", "req_1", "e1"),
        ("vendor_log", "req_1", "e1"),
        ("another", "req_2", None),
    ]


def test_a_thread_of_a_request_writes_with_its_ids_and_others_without(lines):
    begin_request("req_1")
    name_execution("e1")

    def say():
        structlog.get_logger("x402jobs").info("said")

    for work in (carried(say), say):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert [line.get("request_id") for line in lines()] == ["req_1", None]


# What is written is what was meant

PACKAGE = Path(__file__).parent.parent / "x402jobs"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
OPENED = {"fault.told": {"status", "code"}, "about": {"execution_id"}}
"""What `**` stands for, where a line is written with it."""


def said_in(file):
    """Every call that writes a line, or binds what later lines have: its place and its fields."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        owner, _, verb = name.rpartition(".")
        if (owner in ("log", "_log") and verb in LEVELS) or verb == "bind_contextvars":
            fields = set()
            for keyword in node.keywords:
                opened = ast.unparse(keyword.value)
                fields |= {keyword.arg} if keyword.arg else OPENED.get(opened, {f"**{opened}"})
            yield f"{file.name}:{node.lineno}", node, fields


CALLS = [call for file in sorted(PACKAGE.rglob("*.py")) for call in said_in(file)]


def test_no_field_that_is_written_down_would_be_dropped():
    asked = {place: fields - FIELDS - {"exc_info", "**ids"} for place, _, fields in CALLS}

    assert len(asked) > 25
    assert {place: fields for place, fields in asked.items() if fields} == {}


def test_a_line_is_named_by_a_word_and_says_the_rest_in_fields():
    """A sentence with something in it would be past the allow-list."""
    unnamed = [
        place
        for place, node, _ in CALLS
        if len(node.args) > 1 or not all(isinstance(each, ast.Constant) for each in node.args)
    ]

    assert unnamed == []
