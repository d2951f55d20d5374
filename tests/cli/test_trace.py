"""``asynctrack trace``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asynctrack._reading.trees.span import TOKEN_PARTS
from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, PARTS, cached_prices, make_run, prices, trace_id
from tests.reading.making import START, RunFolder, event

pytestmark = pytest.mark.may_block("no event loop in here")


def test_a_trace_as_a_tree(
    tmp_path: Path, command: Command, bucket: Callable[[Path], list[str]]
) -> None:
    """Spans with timings and tokens, the prompt with its role, the answer; the same from S3."""
    make_run(tmp_path, "one", [{}, {"topic": "cats", "answer": "Meow", "seconds": 2.5}])
    for place, *more in ([tmp_path], ["jokes/one", "--root", tmp_path], bucket(tmp_path)):
        printed = command("trace", place, trace_id(2), *more)
        assert printed.code == 0 and printed.err == ""
        lines = [line.rstrip() for line in printed.out.splitlines()]
        assert lines[0] == f"Trace {trace_id(2)}"
        assert "2.5 s, 2 spans, 10 tokens in, 20 out" in lines[1]
        assert lines[2] == "Slowest step: ChatOpenAI, 2.5 s of the critical path (◆)"
        assert lines[4:] == [
            "◆ joke chain  2.5 s (itself 2 ms)  +0 ms",
            "└─ ◆ ChatOpenAI chat_model  gpt  2.5 s  +1 ms  10 → 20 tokens",
            "      human: Tell me a joke about cats",
            "      ⇒ ai: Meow",
        ]
        shown = command("trace", place, trace_id(2), "--json", *more).document
        assert (shown["trace_id"], shown["run"], shown["complete"]) == (trace_id(2), "one", True)
        assert [(one["name"], one["depth"]) for one in shown["spans"]] == [
            ("joke", 0), ("ChatOpenAI", 1),
        ]  # fmt: skip
        assert shown["spans"][0]["inputs"] == {"topic": "cats"}


def test_where_the_time_goes(tmp_path: Path, command: Command) -> None:
    """Self time stands beside the total, and what decides how long the trace takes is marked."""
    ids = {"trace_id": "t", "parent_span_id": "t"}
    times = {"slow": (1, 9), "quick": (2, 4)}
    events = [event(1, kind="chain_start", span_id="t", trace_id="t", name="both", time=START)]
    events += [
        event(n, kind=f"tool_{what}", span_id=name, name=name, time=START + at * 10**9, **ids)
        for n, (at, what, name) in enumerate(
            sorted((at, what, name) for name, both in times.items()
                   for at, what in zip(both, ("start", "end"), strict=True)), 2)
    ]  # fmt: skip
    end = START + 10 * 10**9
    events.append(event(6, kind="chain_end", span_id="t", trace_id="t", time=end))
    RunFolder(tmp_path).artifact(events)
    lines = command("trace", tmp_path, "t", "--timings").out.splitlines()
    assert lines[2] == "Slowest step: slow, 8 s of the critical path (◆)"
    assert [line.rstrip() for line in lines[4:]] == [
        "◆ both chain  10 s (itself 2 s)  +0 ms",
        "├─ ◆ slow tool  8 s  +1 s",
        "└─ quick tool  2 s  +2 s",
    ]
    spans = command("trace", tmp_path, "t", "--json").document["spans"]
    found = {one["name"]: (one["self_time"], one["critical_time"]) for one in spans}
    assert found == {"both": (2, 2), "slow": (8, 8), "quick": (2, 0)}


def test_the_beginning_of_an_id_is_enough_where_it_is_one(tmp_path: Path, command: Command) -> None:
    """A unique prefix of a trace's or a span's id finds it; one of several lists them."""
    make_run(tmp_path, "one", [{} for _ in range(20)])
    assert trace_id(20) in command("trace", tmp_path, "00000014").out
    span = trace_id(3)[:-1] + "1"
    by_span = command("trace", tmp_path, span, "--json").document
    assert (by_span["trace_id"], by_span["span_id"]) == (trace_id(3), span)
    several = command("trace", tmp_path, "0000001")
    assert several.code == 2 and several.out == ""
    assert [trace_id(n) in several.err for n in (15, 16, 17, 18, 19, 20)] == [False] + [True] * 5
    nothing = command("trace", tmp_path, "ff")
    assert nothing.code == 2 and "begins with 'ff'" in nothing.err
    assert command("trace", tmp_path, "").code == 2


def test_an_error_is_shown_where_it_came_up(tmp_path: Path, command: Command) -> None:
    """Type and message once, at the deepest span that has it; the traceback with --full."""
    ids = {"trace_id": "t"}
    error = {"type": "KeyError", "message": "'x'", "traceback": "tools.py:3 in search"}
    folder = RunFolder(tmp_path)
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="t", name="agent", **ids),
            event(2, kind="tool_start", span_id="u", parent_span_id="t", name="search", **ids),
            event(3, kind="tool_error", span_id="u", parent_span_id="t", error=error, **ids),
            event(4, kind="chain_error", span_id="t", error=error, **ids),
            event(
                5, kind="chain_start", span_id="v", parent_span_id="w", trace_id="w", name="lost"
            ),
        ]
    )
    out = command("trace", tmp_path, "t").out
    assert out.count("KeyError: 'x'") == 1 and "tools.py" not in out
    assert out.index("search tool") < out.index("KeyError")
    assert "tools.py:3 in search" in command("trace", tmp_path, "t", "--full").out
    lost = command("trace", tmp_path, "v").out
    assert "UNFINISHED" in lost and "its parent is unknown" in lost and "something of it" in lost


def test_long_texts_are_cut_unless_all_is_asked_for(tmp_path: Path, command: Command) -> None:
    """A prompt of a megabyte does not fill the screen; --full shows it, --timings nothing of it."""
    make_run(tmp_path, "one", [{"prompt": "word " * 200_000}])
    cut = command("trace", tmp_path, trace_id(1)).out
    assert len(cut) < 3_000 and "more characters]" in cut
    assert len(command("trace", tmp_path, trace_id(1), "--full").out) > 1_000_000
    assert "word" not in command("trace", tmp_path, trace_id(1), "--timings").out


def test_messages_tools_and_costs_are_said(tmp_path: Path, command: Command) -> None:
    """Tool calls, blocks of content, prompts of completion models and streams are readable."""
    calls = [{"name": "search", "args": {"query": "x"}, "id": "1", "type": "tool_call"}]
    blocks = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": "http://i"}]
    folder = RunFolder(tmp_path)
    model = {"attributes": {"gen_ai.request.model": "gpt", "gen_ai.usage.input_tokens": 1_000_000}}
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="t", trace_id="t", name="root"),
            event(2, kind="chat_model_start", span_id="a", parent_span_id="t", trace_id="t",
                  inputs={"messages": [[{"type": "human", "content": blocks}]]}),
            event(3, kind="llm_end", span_id="a", parent_span_id="t", trace_id="t", **model,
                  outputs={"generations": [[{"text": "", "message": {
                      "type": "ai", "content": "", "tool_calls": calls}}]]}),
            event(4, kind="llm_start", span_id="b", parent_span_id="t", trace_id="t",
                  inputs={"prompts": ["complete me"]}),
            event(5, kind="llm_end", span_id="b", parent_span_id="t", trace_id="t",
                  data={"stream": {"text": "streamed", "time_to_first_token": 0.25}}),
            event(6, kind="chain_end", span_id="t", trace_id="t"),
        ]
    )  # fmt: skip
    out = command("trace", tmp_path, "t", "--prices", prices(tmp_path / "p.json")).out
    assert 'ai: → search({"query":"x"})' in out
    assert "human: look" in out and "http://i" in out
    assert "complete me" in out and "⇒: streamed" in out and "first token after 250 ms" in out
    assert "$1.00" in out


def test_parts_of_a_call_s_tokens_are_named(tmp_path: Path, command: Command) -> None:
    """A call names its cached tokens and its reasoning, or that LangChain had the answer."""
    hit = {"langchain.cache_hit": True}
    make_run(tmp_path, "one", [
        {"tokens": (1_000_000, 500_000), "parts": PARTS}, {"tokens": (0, 0), "parts": hit}, {},
    ])  # fmt: skip
    file = cached_prices(tmp_path / "p.json")
    out = command("trace", tmp_path, trace_id(1), "--timings", "--prices", file).out
    said = "500,000 tokens (600,000 from the cache, 100,000 into the cache, 40 reasoning) $1.56"
    assert said in " ".join(out.split())
    (span,) = command("trace", tmp_path, trace_id(1), "--json").document["spans"][1:]
    assert [span[name] for name in TOKEN_PARTS] == list(PARTS.values())
    out = command("trace", tmp_path, trace_id(2), "--timings", "--prices", file).out
    assert "from LangChain's cache $0.00" in " ".join(out.split())
    out = command("trace", tmp_path, trace_id(3), "--timings").out
    assert "10 → 20 tokens" in out and "tokens (" not in out


def test_nothing_logged_can_steer_the_terminal(tmp_path: Path, command: Command) -> None:
    """Prompts, answers and errors are text, in the tree and in JSON."""
    make_run(tmp_path, "one", [{"prompt": HOSTILE, "answer": HOSTILE, "error": HOSTILE}])
    for more in ([], ["--full"], ["--json"]):
        out = command("trace", tmp_path, trace_id(1), *more).out
        assert not {"\x1b", "\u202e", "\x07"} & set(out)
        assert "[bold]not bold[/bold]" in out


def test_deep_trees_and_payloads_are_shown(tmp_path: Path, command: Command) -> None:
    """Two thousand spans below each other, and a payload nested as deep as it is read."""
    deep: object = "end"
    for _ in range(900):
        deep = [deep]
    spans = 2_000
    starts = [
        event(n + 1, kind="chain_start", span_id=f"s{n}", trace_id="s0", name="n",
              **({"parent_span_id": f"s{n - 1}"} if n else {"inputs": deep}))
        for n in range(spans)
    ]  # fmt: skip
    RunFolder(tmp_path).artifact(starts)
    out = command("trace", tmp_path, "s0", "--json").document
    assert len(out["spans"]) == spans and out["spans"][-1]["depth"] == spans - 1
    assert '{"$cut": "depth"}' in json.dumps(out["spans"][0]["inputs"])
    printed = command("trace", tmp_path, "s1999")
    assert printed.code == 0 and printed.out.count("UNFINISHED") == spans
