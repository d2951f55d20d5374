"""Logged calls as examples: what went in, what came out, what people thought of it.

One form for LangSmith's datasets and MLflow's: each takes the fields that it knows.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, Final, TypedDict

from asynctrack._common.period import ALL, Period
from asynctrack._errors import OptionError
from asynctrack._reading.decoding.openai_form import in_openai_form, is_message
from asynctrack._reading.index import chat
from asynctrack._reading.index.tables import Indexed, Progress
from asynctrack._reading.query import query

_FRAMEWORKS: Final = ("langgraph_", "lc_", "ls_", "checkpoint", "__pregel")
"""How metadata begin that LangChain and LangGraph give, and no user."""
_OURS: Final = ("name", "kind", "outcome", "model", "session_id", "user_id", "experiment", "run",
                "trace_id", "span_id")  # fmt: skip
_COLUMNS: Final = (
    "experiment", "run", "trace_id", "span_id", "name", "kind", "outcome", "start", "session_id",
    "user_id", "model", "inputs", "outputs", "metadata", "data", "error_type", "error_message",
)  # fmt: skip


class Example(TypedDict):
    """A logged call as an example: a line of a data set, and what ``create_examples`` of LangSmith
    and ``merge_records`` of MLflow take.

    Attributes:
        inputs: What went in. What is no object is below ``input``; a list of messages is below
            ``messages``.
        outputs: What came out, or None where the call did not end well. What is no object is below
            ``output``; one message is below ``message``.
        expectations: For MLflow: ``expected_response``, the answer as text, and each score of the
            feedback by its name.
        metadata: The user's own metadata of the call, where it comes from, how it ended, and all
            that was said of it (``feedback``).
        source: For MLflow: the trace and the span.
    """

    inputs: dict[str, Any]
    outputs: dict[str, Any] | None
    expectations: dict[str, Any]
    metadata: dict[str, Any]
    source: dict[str, Any]


def examples(
    run: Indexed,
    *,
    where: str | None = None,
    kind: str | Iterable[str] | None = None,
    name: str | None = None,
    period: Period = ALL,
    limit: int = 0,
    progress: Progress | None = None,
) -> Generator[Example, None, None]:
    """Yield logged calls as examples, by their start. Blocks.

    Args:
        run: The Run.
        where: Only those for which this holds: a condition of SQL on a row of ``spans``.
        kind: Calls of this kind, or of several, wherever they are in their traces. Without it and
            ``name`` the calls from outside.
        name: Calls of this component.
        period: Only traces that started then.
        limit: How many at the most; 0 yields all.
        progress: Called with how many events were read.

    Raises:
        OptionError: One of them is not allowed.
        QueryError: ``where`` is no condition.
        MissingExtraError: duckdb or pyarrow is not installed.
        ChecksumError: As ``RecordedRun.events``.
        ReadError: As ``RecordedRun.events``.
        BackendError: As ``RecordedRun.events``.
    """
    if where is not None and not (isinstance(where, str) and where.strip()):
        raise OptionError("where", where, "a condition of SQL, such as \"outcome = 'ok'\"")
    if type(limit) is not int or limit < 0:
        raise OptionError("limit", limit, "a whole number, 0 or more")
    if name is not None and not isinstance(name, str):
        raise OptionError("name", name, "the name of a component")
    kinds = None if kind is None else [kind] if isinstance(kind, str) else list(kind)
    if kinds is not None and not (kinds and all(isinstance(one, str) for one in kinds)):
        raise OptionError("kind", kind, "a kind of spans, or several")
    with query([run], _statement(where, kinds, name, limit), progress, period) as answer:
        for row in answer.rows:
            yield _example(dict(zip(answer.columns, row, strict=True)))


def _statement(where: str | None, kinds: list[str] | None, name: str | None, limit: int) -> str:
    asked = ["start IS NOT NULL"]
    if kinds is None and name is None:
        asked.append("(parent_span_id IS NULL OR orphan)")
    for column, values in (("kind", kinds), ("name", None if name is None else [name])):
        if values is not None:
            asked.append(f"{column} IN ({', '.join(map(_quoted, values))})")
    if where is not None:
        asked.append(f"(\n{where}\n)")  # a comment in it ends with its line
    said = (
        "SELECT list(to_json({name: name, score: score, value: value, comment: comment,"
        " user_id: user_id}) ORDER BY time, seq) FROM feedback f WHERE f.trace_id = s.trace_id"
        " AND (f.span_id = s.span_id OR (f.span_id IS NULL AND (s.parent_span_id IS NULL"
        " OR s.orphan)))"
    )
    return (
        f"SELECT {', '.join(_COLUMNS)}, ({said}) AS feedback FROM"
        f" (SELECT * FROM spans WHERE {' AND '.join(asked)}\n) s ORDER BY start, span_id"
        + (f" LIMIT {limit:d}" if limit else "")
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _example(row: Mapping[str, Any]) -> Example:
    inputs, outputs = _json(row["inputs"]), _json(row["outputs"])
    ended = row["outcome"] == "ok"
    said = [_given(json.loads(one)) for one in row["feedback"] or ()]
    expected: dict[str, Any] = {}
    for one in said:
        expected[one["name"]] = one.get("score", one.get("value", one.get("comment")))
    if ended:
        expected["expected_response"] = chat.answered(outputs, chat.asked(inputs))
    return {
        "inputs": _inputs(row, inputs),
        "outputs": _outputs(row["kind"], outputs) if ended else None,
        "expectations": expected,
        "metadata": _metadata(row, said),
        "source": {
            "source_type": "TRACE",
            "source_data": {"trace_id": row["trace_id"], "span_id": row["span_id"]},
        },
    }


def _given(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


def _metadata(row: Mapping[str, Any], said: list[dict[str, Any]]) -> dict[str, Any]:
    logged = _json(row["metadata"])
    users = {
        name: value
        for name, value in (logged if isinstance(logged, dict) else {}).items()
        if not name.startswith(_FRAMEWORKS)
    }
    found = {**users, **{name: row[name] for name in _OURS if row[name] is not None}}
    start = row["start"]
    if isinstance(start, datetime):
        found["start"] = start.astimezone(timezone.utc).isoformat()
    if row["error_type"] is not None:
        message = row["error_message"]
        found["error"] = f"{row['error_type']}: {message}" if message else row["error_type"]
    if said:
        found["feedback"] = said
    return found


def _inputs(row: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """Return what went in as an object."""
    if row["kind"] == "chat_model" and isinstance(value, dict):
        asked: dict[str, Any] = {"messages": _only(value.get("messages"))}
        data = _json(row["data"])
        params = data.get("invocation_params") if isinstance(data, dict) else None
        tools = params.get("tools") if isinstance(params, dict) else None
        return _form({**asked, "tools": tools} if tools else asked)
    if row["kind"] == "llm" and isinstance(value, dict):
        return {"prompt": _only(value.get("prompts"))}
    if isinstance(value, dict) and not is_message(value):
        return _form(value)
    if is_message(value):
        value = [value]
    if isinstance(value, list) and value and all(map(is_message, value)):
        return {"messages": in_openai_form(value)}
    return {"input": in_openai_form(value)}


def _outputs(kind: str, value: Any) -> dict[str, Any]:
    """Return what came out as an object."""
    if kind in ("chat_model", "llm"):
        found = list(_generated(value))
        if len(found) == 1:
            value = found[0]
        elif found:
            value = {"messages": found} if all(map(is_message, found)) else {"output": found}
    if is_message(value):
        return {"message": in_openai_form(value)}
    return _form(value) if isinstance(value, dict) else {"output": in_openai_form(value)}


def _generated(outputs: Any) -> Iterator[Any]:
    """Yield what a model answered: messages, or texts."""
    generations = outputs.get("generations") if isinstance(outputs, dict) else None
    for one in generations if isinstance(generations, list) else ():
        for generation in one if isinstance(one, list) else (one,):
            if isinstance(generation, dict):
                message = generation.get("message")
                yield message if is_message(message) else generation.get("text")


def _only(value: Any) -> Any:
    """Return the item of a batch of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _form(value: dict[str, Any]) -> dict[str, Any]:
    return {name: in_openai_form(item) for name, item in value.items()}


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
