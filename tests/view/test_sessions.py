"""Sessions, users, conversations and filters, against what the events say, counted apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asynctrack import open_run
from asynctrack._errors import NotFoundError, OptionError
from asynctrack._reading.trees.span import Span
from asynctrack._reading.trees.trace import Trace
from tests.cli.talking import ANSWER, QUESTION, talk
from tests.reading.making import START, RunFolder, event
from tests.view.test_index import wait_for
from tests.view.test_outcomes import Indexed

SECOND = 10**9
ERRORS = ("app.RateLimitError", "app.TimeoutError")


def tool_run(root: Path) -> None:
    """A Run by hand: 40 traces of 8 sessions and 4 users; each calls two tools, one of which fails
    now and then, and the trace goes on; some traces fail in the model."""
    folder = RunFolder(root, "bot", "tools")
    events: list[dict[str, Any]] = []

    def add(kind: str, span: str, trace: str, **fields: Any) -> None:
        seq = len(events) + 1
        parent = {} if span == trace else {"parent_span_id": trace}
        events.append(event(seq, kind=kind, time=START + seq * SECOND, span_id=span,
                            trace_id=trace, **parent, **fields))  # fmt: skip

    for n in range(40):
        trace = f"{n:08x}-0000-4000-8000-000000000000"
        metadata = {"session_id": f"s-{n // 5}", "user_id": f"u-{n // 10}"}
        add("chain_start", trace, trace, name="answer", metadata=metadata, inputs=f"question {n}")
        for at, tool in enumerate(("lookup_order", "refund")):
            span = f"{n:08x}-0000-4000-8000-0000000000a{at}"
            add("tool_start", span, trace, name=tool, inputs=f"order {n}")
            if n % (4 + 3 * at) == 0:
                error = {"type": ERRORS[at], "message": f"no answer for {n}"}
                add("tool_error", span, trace, error=error, outcome="error", duration=1.0)
            else:
                add("tool_end", span, trace, outputs="done", outcome="ok", duration=0.5)
        span = f"{n:08x}-0000-4000-8000-0000000000b0"
        add("chat_model_start", span, trace, name="Chat", inputs={"messages": [[]]},
            attributes={"gen_ai.request.model": "m-1"})  # fmt: skip
        if n % 13 == 0:
            error = {"type": "app.Refused", "message": "no"}
            add("llm_error", span, trace, error=error, outcome="error", duration=1.0)
            add("chain_error", trace, trace, error=error, outcome="error", duration=2.0)
        else:
            usage = {"gen_ai.usage.input_tokens": n, "gen_ai.usage.output_tokens": 2}
            add("llm_end", span, trace, attributes=usage, outcome="ok", duration=1.0)
            add("chain_end", trace, trace, outputs=f"answer {n}", outcome="ok", duration=2.0)
        if n % 3 == 0:
            about = {"trace_id": trace, "score": n % 2, "comment": f"said of {n}"}
            events.append(event(len(events) + 1, kind="feedback", name="thumbs", trace_id=trace,
                                time=START + (len(events) + 1) * SECOND, data=about))  # fmt: skip
    folder.artifact(events)
    folder.manifest()


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    """Two Runs of a real bot, and one by hand, all of one experiment."""
    place = tmp_path_factory.mktemp("bot")
    talk(place)
    tool_run(place)
    made = Indexed(place)
    yield made
    made.close()


def chosen(bot: Indexed, **asked: str) -> set[str]:
    """The ids of the traces that filters choose; each panel says the same."""
    given = {"run": bot.id("tools"), **asked}
    found: set[str] = set()
    shown = bot.pages.traces(given)
    found |= {row["trace_id"] for row in shown["traces"]}
    assert bot.pages.overview(given)["totals"]["traces"] == len(found)
    chains = [one for one in bot.pages.components(given)["components"] if one["kind"] == "chain"]
    assert sum(one["calls"] for one in chains) == len(found)
    sessions = bot.pages.sessions(given)
    assert sum(one["turns"] for one in sessions["sessions"]) == len(found)
    offered = bot.pages.facets({**given, "outcome": ""} if "outcome" in asked else given)
    assert all(one["traces"] <= 40 for values in offered.values() for one in values)
    return found


def any_span(condition: Callable[[Span], bool]) -> Callable[[Trace], bool]:
    """Whether one span of a trace is as wanted."""
    return lambda trace: any(map(condition, trace.walk()))


_WANTED: dict[str, tuple[dict[str, str], Callable[[Trace], bool]]] = {
    "a tool that failed": (
        {"name": "lookup_order", "ended": "error"},
        any_span(lambda one: one.name == "lookup_order" and one.outcome == "error"),
    ),
    "a tool that went well": (
        {"name": "refund", "ended": "ok"},
        any_span(lambda one: one.name == "refund" and one.outcome == "ok"),
    ),
    "of an error": (
        {"error": ERRORS[1]},
        any_span(lambda one: one.error is not None and one.error.type == ERRORS[1]),
    ),
    "an error of another tool": ({"name": "refund", "error": ERRORS[0]}, lambda _: False),
    "a tool, in a trace that failed": (
        {"name": "lookup_order", "ended": "error", "outcome": "error"},
        lambda trace: (
            trace.failed
            and any(
                one.name == "lookup_order" and one.outcome == "error" for one in trace.walk()
            )
        ),
    ),
    "session": ({"session": "s-3"}, lambda trace: trace.session_id == "s-3"),
    "user and tool": (
        {"user": "u-1", "name": "refund", "ended": "error"},
        lambda trace: (
            trace.user_id == "u-1"
            and any(one.name == "refund" and one.outcome == "error" for one in trace.walk())
        ),
    ),
    "thread": ({"thread": "s-3"}, lambda _: False),
    "type of an error": (
        {"text": "RateLimitError"},
        any_span(lambda one: one.error is not None and one.error.type == ERRORS[0]),
    ),
    "message of an error": (
        {"text": '"no answer for 12"'},
        any_span(lambda one: one.error is not None and one.error.message == "no answer for 12"),
    ),
    "id of a trace": ({"text": "00000007-0000"}, lambda one: one.trace_id.startswith("00000007")),
    "id of a span": (
        {"text": "00000009-0000-4000-8000-0000000000B0"},
        any_span(lambda one: one.span_id == "00000009-0000-4000-8000-0000000000b0"),
    ),
    "id and word": (
        {"text": "00000009-0000 question"}, lambda one: one.trace_id.startswith("00000009")
    ),
    "session by search": ({"text": "s-7"}, lambda trace: trace.session_id == "s-7"),
}  # fmt: skip


@pytest.mark.parametrize("name", _WANTED)
def test_filters_hold_for_one_span_in_every_panel(bot: Indexed, name: str) -> None:
    """Name, model, ending and error are those of one and the same span; traces, numbers,
    components and sessions follow the same filters."""
    asked, condition = _WANTED[name]
    traces = bot.traces["tools"].values()
    assert chosen(bot, **asked) == {one.trace_id for one in traces if condition(one)}


def test_what_is_offered_goes_with_what_is_chosen(bot: Indexed) -> None:
    """Each list offers what its traces would be with the other filters, and how many."""
    given = {"run": bot.id("tools"), "name": "lookup_order", "ended": "error"}
    offered = bot.pages.facets(given)
    spans = [(trace, span) for trace in bot.traces["tools"].values() for span in trace.walk()]
    failed: dict[str, set[str]] = defaultdict(set)
    for trace, span in spans:
        if span.outcome == "error":
            failed[str(span.name)].add(trace.trace_id)
    names = {one["value"]: one["traces"] for one in offered["name"]}
    assert names == {name: len(ids) for name, ids in failed.items()}
    assert offered["error"] == [{"value": ERRORS[0], "traces": 10}]
    assert {one["value"]: one["traces"] for one in offered["ended"]} == {"ok": 30, "error": 10}
    assert offered["model"] == [], "a tool has none"
    users = {one["value"]: one["traces"] for one in offered["user"]}
    assert sum(users.values()) == 10 and set(users) == {"u-0", "u-1", "u-2", "u-3"}


def test_which_tool_fails_most_and_why(bot: Indexed) -> None:
    """The components say calls, failures with their commonest types, and how long calls took."""
    found = bot.page("components", "tools")["components"]
    tools = [one for one in found if one["kind"] == "tool"]
    assert [(one["name"], one["calls"], one["failed"]) for one in tools] == [
        ("lookup_order", 40, 10), ("refund", 40, 6)
    ]  # fmt: skip
    assert tools[0]["errors"] == ((ERRORS[0], 10),)
    assert (tools[0]["p50"], tools[0]["p95"]) == (0.5, 1.0)
    (model,) = [one for one in found if one["kind"] == "model"]
    assert (model["name"], model["failed"]) == ("m-1", 4)
    assert model["input_tokens"] == sum(n for n in range(40) if n % 13)


def test_sessions_are_counted(bot: Indexed) -> None:
    """A page of sessions says of each its users, turns, failures, tokens and feedback; those of an
    experiment are those of all its Runs."""
    traces = bot.traces["tools"].values()
    shown = bot.page("sessions", "tools")
    assert (shown["total"], shown["without"], shown["where"]["run"]) == (8, 0, "tools")
    for one in shown["sessions"]:
        same = [trace for trace in traces if trace.session_id == one["id"]]
        assert one["turns"] == len(same) == 5
        assert one["failed"] == sum(trace.failed for trace in same)
        assert list(one["users"]) == sorted({str(trace.user_id) for trace in same})
        assert one["input_tokens"] == sum(
            span.input_tokens or 0 for trace in same for span in trace.walk()
        )
        last = max(trace.start_unix_nano or 0 for trace in same)
        assert one["last"] == last / 1e9
        numbers = [int(trace.trace_id[:8], 16) for trace in same]
        scores = [n % 2 for n in numbers if n % 3 == 0]
        (thumbs,) = one["feedback"]
        assert thumbs["count"] == len(scores)
        assert thumbs["mean"] == pytest.approx(sum(scores) / len(scores))
    latest = [one["last"] for one in shown["sessions"]]
    assert latest == sorted(latest, reverse=True)
    failing = bot.page("sessions", "tools", sort="failed")["sessions"]
    assert [one["failed"] for one in failing] == sorted(
        (one["failed"] for one in failing), reverse=True
    )
    users = bot.page("sessions", "tools", by="user")
    assert {(one["id"], one["turns"], one["sessions"]) for one in users["sessions"]} == {
        (f"u-{n}", 10, 2) for n in range(4)
    }
    everything = bot.pages.sessions({"experiment": "bot"})
    assert everything["total"] == 8 + 3 and everything["without"] == 1
    late = next(one for one in everything["sessions"] if one["id"] == "late")
    assert late["turns"] == 2, "over two Runs"


def test_a_conversation_is_what_was_said(bot: Indexed) -> None:
    """The turns of a session stand in order, each with its question, its answer and its trace."""
    shown = bot.pages.conversation({"experiment": "bot", "session": "late"})
    assert (shown["turns"], shown["runs"], shown["users"]) == (2, 2, ["ann"])
    first, second = shown["list"]
    assert (first["asked"], first["answered"]) == (QUESTION, ANSWER)
    assert (second["asked"], second["answered"]) == ("And order 7?\nPlease.", "Gladly.")
    assert [one["run_id"] for one in shown["list"]] == [bot.id("monday"), bot.id("tuesday")]
    assert [one["number"] for one in shown["list"]] == [1, 2]
    of_one = bot.page("conversation", "monday", session="late")
    assert of_one["turns"] == 1, "a Run's page keeps to the Run"
    (broken,) = bot.page("conversation", "monday", session="b-session")["list"]
    assert broken["outcome"] == "error" and "CarrierDownError: 503" in broken["error"]
    paused, resumed = bot.page("conversation", "tuesday", session="wants")["list"]
    assert paused["asks"] == "May I pay 20 EUR?" and paused["said"] == "interrupted: it waits"
    assert (resumed["asked"], resumed["answered"]) == ("yes", "Paid.")
    with pytest.raises(NotFoundError, match="no such session"):
        bot.page("conversation", "monday", session="nobody's")
    with pytest.raises(OptionError):
        bot.page("sessions", "monday", by="moon")


def test_a_trace_knows_its_turns_and_feedback(bot: Indexed) -> None:
    """A trace's page names its session, the turns before and after it, and what was said of it."""
    ids = sorted(bot.traces["tools"])
    pages = [bot.page("trace", "tools", trace=one) for one in ids[5:10]]
    before = [(one.get("previous_turn") or {}).get("trace_id") for one in pages]
    after = [(one.get("next_turn") or {}).get("trace_id") for one in pages]
    assert before == [None, *ids[5:9]] and after == [*ids[6:10], None]
    assert {one["session_id"] for one in pages} == {"s-1"}
    (said,) = pages[1]["feedback"]
    assert (said["name"], said["score"], said["comment"]) == ("thumbs", 0, "said of 6")
    assert pages[0]["feedback"] == []


def test_feedback_is_shown_while_it_comes(tmp_path: Path) -> None:
    """What is said of a trace later, while the viewer is open, is in its page."""
    folder = RunFolder(tmp_path)
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="r", trace_id="r", metadata={"session_id": "s"}),
            event(2, kind="chain_end", span_id="r", trace_id="r", outputs="x", outcome="ok"),
            event(3, kind="chain_start", span_id="q", trace_id="q"),
            event(4, kind="feedback", name="thumbs", trace_id="r",
                  data={"trace_id": "r", "value": "fine"}),
        ]
    )  # fmt: skip
    folder.manifest(state="open", updated_unix_nano=2**62)
    made = Indexed(tmp_path)
    try:
        (said,) = made.page("trace", "one", trace="r")["feedback"]
        assert said["score"] == "fine"
        folder.artifact([event(5, kind="feedback", name="stars", trace_id="r",
                               data={"trace_id": "r", "score": 4})])  # fmt: skip
        folder.manifest(state="open", updated_unix_nano=2**62)
        made.indexer.watched(made.id("one"))
        wait_for(lambda: len(made.page("trace", "one", trace="r")["feedback"]) == 2, made.indexer)
        (session,) = made.page("sessions", "one")["sessions"]
        assert [one["name"] for one in session["feedback"]] == ["stars", "thumbs"]
    finally:
        made.close()


def test_compare_whole_runs(tmp_path: Path) -> None:
    """The earlier Run stands left; what is coloured is beyond noise; of answers those that differ
    in what was said, whatever the ids of their messages."""
    for n, (run, failing, answer) in enumerate((("new", 2, "77"), ("old", 60, "7"))):
        writer = f"{n}" * 24
        folder, events = RunFolder(tmp_path, "e", run), []
        start = START + (1 - n) * 3600 * SECOND

        def add(kind: str, events: list[dict[str, Any]] = events, **fields: Any) -> None:
            seq = len(events) + 1
            events.append(event(seq, kind=kind, **fields))

        for number in range(200):
            said = [{"type": "human", "content": f"q {number}", "id": f"{run}-{number}"}]
            answered = answer if number < 77 else "the same"
            replied = [*said, {"type": "ai", "content": answered, "id": f"x-{run}-{number}"}]
            trace = f"{run}-{number}"
            ids = {"trace_id": trace, "writer": writer, "time": start + number * SECOND}
            root = {"span_id": trace, **ids}
            tool = {"span_id": f"t-{trace}", "parent_span_id": trace, **ids}
            add("chain_start", name="bot", inputs={"messages": said}, **root)
            add("tool_start", name="lookup", **tool)
            if number < failing:
                error = {"type": "a.B", "message": "no"}
                add("tool_error", error=error, outcome="error", duration=0.1, **tool)
            else:
                add("tool_end", outcome="ok", duration=0.1, **tool)
            add("chain_end", outputs={"messages": replied}, outcome="ok", duration=1.0, **root)
        folder.artifact(events, writer=writer)
        metrics = {
            name: {"count": 2, "sum": 3, "min": 1, "max": 2, "last": 2}
            for name in ("gen_ai.calls", "helpful")
        }
        folder.manifest(writer, metrics=metrics)
    made = Indexed(tmp_path)
    try:
        compared = made.pages.compare({"a": made.id("new"), "b": made.id("old")})
        assert [side["name"] for side in compared["sides"]] == ["old", "new"]
        assert list(compared["sides"][0]["metrics"]) == ["helpful"]
        assert (compared["matched"], compared["changed"]) == (200, 77)
        assert compared["pages"] == 2 and len(compared["pairs"]) == 50
        assert compared["pairs"][0]["question"] == "q 0"
        assert [side["answer"] for side in compared["pairs"][0]["sides"]] == ["7", "77"]
        (tool,) = [one for one in compared["components"] if one["kind"] == "tool"]
        failed = tool["differences"]["failure_rate"]
        assert failed["value"] == pytest.approx(-0.29) and failed["beyond_noise"]
        assert not tool["differences"]["p50"]["beyond_noise"]
        assert not compared["differences"]["failed"]["beyond_noise"]
        swapped = made.pages.compare({"a": made.id("new"), "b": made.id("old"), "swap": "1"})
        assert [side["name"] for side in swapped["sides"]] == ["new", "old"]
        last = made.pages.compare({"a": made.id("new"), "b": made.id("old"), "page": "1"})
        assert len(last["pairs"]) == 27
    finally:
        made.close()


def test_the_truth_is_of_these_runs(bot: Indexed) -> None:
    """The traces that the tests above compare with are those of the Runs on disk."""
    for run in bot.indexer.runs:
        assert len(list(open_run(run.uris[0], spool_dir=False).traces())) == run.traces
