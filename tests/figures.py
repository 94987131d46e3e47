"""Reading what /metrics tells, as Prometheus does."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

Figures = dict[str, float]


def read(text: str) -> Figures:
    """Each sample as it is written, `name{label="value"}` with labels in alphabetical order."""
    return {
        _name(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _name(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def told(client: FlaskClient) -> Figures:
    """What the door says now."""
    return read(client.get("/metrics").get_data(as_text=True))


@contextmanager
def grown(client: FlaskClient) -> Iterator[Figures]:
    """What has become more in this block, and by how much; buckets and the door itself left out."""
    before, grown = told(client), Figures()
    yield grown
    for name, value in told(client).items():
        more = value - before.get(name, 0.0)
        if more and "_bucket" not in name and 'route="/metrics"' not in name:
            grown[name.removeprefix("x402jobs_")] = more
