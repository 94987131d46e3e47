"""Claude, through the anthropic package: the real thing behind `ports.LanguageModel`."""

import os
import re
from datetime import date, datetime
from threading import Lock

import anthropic
import httpx2
from anthropic.resources.messages import DEPRECATED_MODELS

from x402jobs.adapters.claude.keys import check_key
from x402jobs.adapters.claude.speech import ClaudeSpeech
from x402jobs.adapters.claude.transport import WRITE_SECONDS, Transport
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.secret import Secret
from x402jobs.settings import Settings

__all__ = ["Claude", "ClaudeSpeech", "retirements"]


class Claude:
    """Answers prompts over one shared set of connections per process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._client: anthropic.Anthropic | None = None
        self._process = 0

    def speech(self, prompt: Prompt, key: Secret) -> ClaudeSpeech:
        """A speech not begun yet. No call is made here."""
        return ClaudeSpeech(self._shared_client, prompt, key, self._settings.total_seconds)

    def check_key(self, key: Secret) -> None:
        """Ask Claude for its list of models, which costs no tokens."""
        check_key(self._shared_client, key)

    def close(self) -> None:
        """Hang up on everything and forget the connections; the next speech makes new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _shared_client(self) -> anthropic.Anthropic:
        """The process's client, made on its first use.

        Not made in the constructor: a forked worker must not share its parent's sockets, and must
        not close them either. Not made per call: loading the certificates blocks for 20 ms.
        """
        with self._lock:
            if self._client is None or self._process != os.getpid():
                self._client, self._process = self._build(), os.getpid()
            return self._client

    def _build(self) -> anthropic.Anthropic:
        settings = self._settings
        http_client = httpx2.Client(
            transport=Transport(settings.claude_url, httpx2.create_ssl_context(trust_env=False)),
            trust_env=False,  # no proxy and no .netrc of the environment's may see a key
            follow_redirects=False,
            # A compressed stream would save nothing and could hold words back.
            headers={"accept-encoding": "identity"},
            timeout=httpx2.Timeout(
                connect=settings.connect_seconds,
                read=settings.idle_seconds,
                write=WRITE_SECONDS,
                pool=settings.connect_seconds,
            ),
        )
        return anthropic.Anthropic(
            # Never used: every call brings its own. Without one the package would go and look for
            # credentials in the environment and in the home directory.
            api_key="none",
            base_url=settings.claude_url,
            http_client=http_client,
            max_retries=0,  # its own would obey a Retry-After of years
            open_telemetry=False,  # else the environment can have prompts copied into traces
        )


def retirements() -> dict[str, date]:
    """When Claude's models end, as far as the anthropic package knows.

    It writes dates like "June 15th, 2026"; one we cannot read is left out: a model then counts as
    living until Claude says otherwise, which costs nobody anything.
    """
    read = {model: _date(text) for model, text in DEPRECATED_MODELS.items()}
    return {model: day for model, day in read.items() if day is not None}


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", text), "%B %d, %Y").date()
    except ValueError:
        return None
