"""An execution as the columns of its row, which have the same names in every store."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from x402jobs.domain.execution import Execution, Kind, State

UNSEEN_SECONDS = 15
"""A worker that has not beaten for this long is gone (spec/money.md)."""
DAY_SECONDS = 24 * 3600

COLUMNS = tuple(field.name for field in fields(Execution))


def columns_of(execution: Execution) -> dict[str, Any]:
    """Its columns by name; the usage is still an object."""
    return {name: getattr(execution, name) for name in COLUMNS}


def execution_of(columns: Mapping[str, Any]) -> Execution:
    """The execution that these columns hold, the usage an object."""
    values = {name: columns[name] for name in COLUMNS}
    return Execution(**values | {"kind": Kind(values["kind"]), "state": State(values["state"])})
