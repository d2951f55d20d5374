"""Runs made by hand for the commands that read: chains with prompts, answers, tools and errors."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.reading.making import START, WRITER, RunFolder, event

HOSTILE = "\x1b]0;owned\x07 [bold]not bold[/bold] \u202eevil\u202c"
"""A terminal escape, rich's markup and a bidi override."""


def trace_id(number: int) -> str:
    """The id of a trace, as LangChain's look."""
    return f"{number:08x}-0000-7000-8000-000000000000"


def chain(
    number: int,
    first_seq: int,
    *,
    topic: str = "fish",
    prompt: str = "Tell me a joke",
    answer: str = "Ha",
    seconds: float = 1.0,
    error: str = "",
    tokens: tuple[int, int] = (10, 20),
    parts: dict[str, int] | None = None,
    writer: str = WRITER,
) -> list[dict[str, Any]]:
    """The four events of a chain that calls a model."""
    root = trace_id(number)
    model = root[:-1] + "1"
    begin = START + number * 10**10
    end = begin + round(seconds * 1e9)
    shared = {"trace_id": root, "writer": writer}
    message = {"content": f"{prompt} about {topic}", "type": "human"}
    ends: dict[str, Any] = {"kind": "chain_end", "outputs": answer}
    if error:
        described = {"type": "ValueError", "message": error, "traceback": "chain.py:7 in check"}
        ends = {"kind": "chain_error", "error": described}
    return [
        event(first_seq, kind="chain_start", span_id=root, time=begin, name="joke",
              inputs={"topic": topic}, **shared),
        event(first_seq + 1, kind="chat_model_start", span_id=model, parent_span_id=root,
              time=begin + 10**6, name="ChatOpenAI", inputs={"messages": [[message]]},
              attributes={"gen_ai.request.model": "gpt"}, **shared),
        event(first_seq + 2, kind="llm_end", span_id=model, parent_span_id=root,
              time=end - 10**6, outputs={"generations": [[
                  {"text": answer, "type": "ChatGeneration",
                   "message": {"content": answer, "type": "ai", "id": f"run-{number}"}}]]},
              attributes={"gen_ai.usage.input_tokens": tokens[0],
                          "gen_ai.usage.output_tokens": tokens[1], **(parts or {})}, **shared),
        event(first_seq + 3, span_id=root, time=end, **ends, **shared),
    ]  # fmt: skip


def metric(total: float) -> dict[str, float]:
    return {"count": 1, "sum": total, "min": total, "max": total, "last": total}


def make_run(
    root: Path, run: str = "one", chains: list[dict[str, Any]] | None = None, **parameters: Any
) -> RunFolder:
    """A closed Run of these chains (keywords of ``chain``), in objects of two chains each."""
    folder = RunFolder(root, run=run)
    made = [{}] * 6 if chains is None else chains
    events = [
        one
        for number, options in enumerate(made)
        for one in chain(number + 1, 4 * number + 1, **options)
    ]
    for at in range(0, len(events), 8):
        folder.artifact(events[at : at + 8])
    failed = sum(bool(one.get("error")) for one in made)
    tokens = [one.get("tokens", (10, 20)) for one in made]
    parts: Counter[str] = Counter()
    for one in made:
        parts.update(one.get("parts", {}))
    folder.manifest(
        parameters={"gen_ai.request.model": "gpt", **parameters},
        metrics={
            "asynctrack.trace.count": metric(len(made)),
            "asynctrack.trace.errors": metric(failed),
            "gen_ai.client.operation.count": metric(len(made)),
            "gen_ai.usage.input_tokens": metric(sum(read for read, _ in tokens)),
            "gen_ai.usage.output_tokens": metric(sum(written for _, written in tokens)),
            **{name: metric(total) for name, total in parts.items()},
            "score": metric(0.5),
        },
    )
    return folder


PARTS = {
    "gen_ai.usage.cache_read.input_tokens": 600_000,
    "gen_ai.usage.cache_write.input_tokens": 100_000,
    "gen_ai.usage.reasoning.output_tokens": 40,
    "gen_ai.usage.audio.input_tokens": 5,
    "gen_ai.usage.audio.output_tokens": 6,
}
"""Parts of the tokens of a call that read a million and wrote half of it."""


def cached_prices(path: Path) -> Path:
    """A file of prices: as below, a tenth for what comes from the cache, the double for the rest.

    The call with ``PARTS`` costs 0.3 + 0.06 + 0.2 + 1 USD.
    """
    rates = {"in": 1.0, "out": 2.0, "cache_read": 0.1, "cache_write": 2.0}
    rates |= {"audio_in": 1.0, "audio_out": 2.0}
    path.write_text(json.dumps({"gpt": rates}))
    return path


def prices(path: Path) -> Path:
    """A file of prices: 1 and 2 USD per million tokens of the model above."""
    path.write_text(json.dumps({"gpt": [1.0, 2.0]}))
    return path
