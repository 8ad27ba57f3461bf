"""An endpoint without a pipeline: what it asks for some rows, and what it makes of an answer to them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from beam_openai.answers import Answer
from beam_openai.call import Endpoint
from beam_openai.client import Response


def prepared(endpoint: Endpoint, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as the endpoint takes them, with the columns that stand for options."""
    table = pa.Table.from_pylist(rows)
    ready = endpoint.prepared(table)
    for name in set(endpoint.columns_of_options.values()) - set(ready.column_names):
        ready = ready.append_column(name, table[name])
    return ready


def asked(endpoint: Endpoint, *rows: dict[str, Any]) -> Any:
    """The body of the request for these rows."""
    return endpoint.request(prepared(endpoint, list(rows))).body


def invalid(endpoint: Endpoint, *rows: Any) -> dict[int, str]:
    """Why rows are never sent; rows are dicts, or one table."""
    table = rows[0] if isinstance(rows[0], pa.Table) else pa.Table.from_pylist(list(rows))
    reasons = endpoint.invalid(table)
    endpoint.prepared(table)  # which must not mind them
    return reasons


def answer(endpoint: Endpoint, rows: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
    """What the endpoint reads in the answer to so many rows."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return endpoint.columns(Response(200, headers or {}, raw, 0.1), pa.table({"prompt": ["x"] * rows}))


def answered(endpoint: Endpoint, rows: int, body: Any) -> list[dict[str, Any]]:
    """The same as rows of the columns added; their types are those that are declared."""
    read = answer(endpoint, rows, body)
    columns = [
        pa.array(column, field.type) if isinstance(column, list) else column
        for field, column in zip(endpoint.fields, read.columns, strict=True)
    ]
    assert [column.type for column in columns] == [field.type for field in endpoint.fields]
    return pa.table(columns, names=endpoint.outputs).to_pylist()
