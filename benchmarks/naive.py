"""The relay one writes first: the SDK's `.stream()` in a Flask generator. No payment, no ledger."""

import json
import os
from collections.abc import Iterator

import anthropic
from flask import Flask, Response, request

app = Flask(__name__)
client = anthropic.Anthropic(
    api_key="sk-ant-benchmark", base_url=os.environ["CLAUDE_URL"], max_retries=0
)


@app.get("/healthz")
def healthz() -> str:
    """Ready."""
    return "ok"


@app.post("/relay")
def relay() -> Response:
    """Pass the words on as they come."""
    order = request.get_json()["order"]

    def words() -> Iterator[str]:
        with client.messages.stream(
            model="claude-sonnet-5-5",
            max_tokens=4096,
            system=order,
            messages=[{"role": "user", "content": "Begin."}],
        ) as stream:
            for text in stream.text_stream:
                yield f"data: {json.dumps({'type': 'text', 'content': text})}\n\n"
        yield f"data: {json.dumps({'type': 'done'})}\n\n"

    return Response(words(), content_type="text/event-stream")
