"""Streamed tokens: one record for each stream."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from asynctrack._capture.streams import MAX_OPEN_STREAMS, SILENCE, Streams

RUN, OTHER = UUID(int=1), UUID(int=2)
USAGE = UsageMetadata(input_tokens=1, output_tokens=2, total_tokens=3)


def streams(*times: int) -> Streams:
    """Return streams whose clock shows these nanoseconds, one after the other."""
    clock = iter(times)
    return Streams(lambda: next(clock))


def test_a_record() -> None:
    """Text, count, time to first token and the times between tokens."""
    one = streams(1_500_000_000, 1_600_000_000, 1_850_000_000)
    for token in ("a", "big", "fish"):
        one.token(token, run_id=RUN)
    assert one.pop(RUN, 1_000_000_000, 400_000_000) == {
        "text": "abigfish",
        "count": 3,
        "time_to_first_token": 0.5,
        "inter_token_times": [0.1, 0.25],
        "trace_time_to_first_token": 1.1,
    }
    assert one.pop(RUN, 0) is None


def test_nothing_streamed() -> None:
    """A call without tokens has no record."""
    assert streams().pop(RUN, 0) is None


def test_a_start_that_is_not_known() -> None:
    """Without a start there is no time to the first token."""
    one = streams(5)
    one.token("a", run_id=RUN)
    assert one.pop(RUN, None) == {"text": "a", "count": 1, "inter_token_times": []}


def test_streams_side_by_side() -> None:
    """Tokens go to their own stream."""
    both = streams(1, 2, 3)
    both.token("a", run_id=RUN)
    both.token("b", run_id=OTHER)
    both.token("c", run_id=RUN)
    first, second = both.pop(RUN, 0), both.pop(OTHER, 0)
    assert first is not None
    assert second is not None
    assert (first["text"], second["text"]) == ("ac", "b")


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("a", "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "reasoning", "reasoning": "hm"}], "hm"),
        ([{"type": "tool_call_chunk", "args": '{"a":'}], '{"a":'),
        ({"text": None, "args": "x"}, "x"),
        (["a", ["b"]], "ab"),
        (5, "5"),
    ],
    ids=str,
)
def test_kinds_of_tokens(token: Any, text: str) -> None:
    """Content blocks give their text."""
    one = streams(1)
    one.token(token, run_id=RUN, chunk=object())
    assert one.pop(RUN, 0) == {
        "text": text, "count": 1, "time_to_first_token": 0.0, "inter_token_times": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("token", "chunk"),
    [
        (None, None),
        ("", None),
        ([], object()),
        ([{"type": "image", "data": b"x"}], None),
        ("", ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=USAGE))),
        (
            "",
            ChatGenerationChunk(
                message=AIMessageChunk(content="", additional_kwargs={"role": "x"})
            ),
        ),
    ],
    ids=["none", "nothing", "no blocks", "an image", "usage", "role"],
)
def test_what_has_no_content_is_no_token(token: Any, chunk: Any) -> None:
    """The chunks that bring the role and the usage count for nothing: not even a stream begins."""
    one = streams()
    one.token(token, run_id=RUN, chunk=chunk)
    assert one.pop(RUN, 0) is None


def test_arguments_and_reasoning_of_an_empty_token() -> None:
    """A chunk without text gives what it has: the arguments of a tool call, or reasoning."""
    one = streams(1, 2, 3)
    call = {"name": "search", "args": "", "id": "1", "index": 0}
    chunks = [
        AIMessageChunk(content="", tool_call_chunks=[call]),
        AIMessageChunk(content="", additional_kwargs={"reasoning_content": "Hm. "}),
        AIMessageChunk(content="", tool_call_chunks=[{**call, "args": '{"q":'}]),
        AIMessageChunk(content="", tool_call_chunks=[{**call, "args": '"x"}'}]),
    ]
    for chunk in chunks:
        one.token("", run_id=RUN, chunk=ChatGenerationChunk(message=chunk))
    record = one.pop(RUN, 0, 0)
    assert record is not None
    assert (record["text"], record["count"]) == ('Hm. {"q":"x"}', 3)
    assert "trace_time_to_first_token" not in record, "the user has seen none of it"


def test_the_user_sees_text() -> None:
    """What a trace took to its first token is what it took to its first text."""
    one = streams(1_000_000_000, 2_000_000_000, 3_000_000_000, 4_000_000_000)
    one.token([{"type": "reasoning", "reasoning": "hm"}], run_id=RUN)
    one.token([{"type": "tool_call_chunk", "args": "{}"}], run_id=RUN)
    one.token("a", run_id=RUN)
    one.token([{"type": "reasoning", "reasoning": "hm"}], run_id=RUN)
    record = one.pop(RUN, 500_000_000, 0)
    assert record is not None
    assert record["time_to_first_token"] == 0.5
    assert record["trace_time_to_first_token"] == 3.0


def test_half_characters_are_joined() -> None:
    """A character that two tokens hold a half each of is whole in the text; a lone half stays."""
    one = streams(1, 2, 3, 4)
    for token in ("a\ud83d", "\ude00b", "\ud83d", "c"):
        one.token(token, run_id=RUN)
    record = one.pop(RUN, 0)
    assert record is not None
    assert record["text"] == "a\U0001f600b\ud83dc"


def test_tokens_that_come_twice() -> None:
    """A handler that was given twice gets each token twice; each counts once."""
    one = streams(*range(1, 400))
    one.doubled(RUN)
    one.doubled(RUN)
    for number in range(100):
        for _ in range(3):
            one.token(f"{number} ", run_id=RUN)
    record = one.pop(RUN, 0)
    assert record is not None
    assert record["text"] == "".join(f"{number} " for number in range(100))
    assert record["count"] == 100 and "cut_tokens" not in record
    one.doubled(RUN)
    assert one.pop(RUN, 0) is None, "none came"


def test_protocol_events() -> None:
    """Of LangChain's streaming protocol only the deltas carry content."""
    one = streams(1, 2)
    for event in (
        {"event": "message-start"},
        {"event": "content-block-start", "content_block": {"text": "no"}},
        {"event": "content-block-delta", "delta": {"type": "text-delta", "text": "a"}},
        {"event": "content-block-delta", "content_block": {"type": "text", "text": "b"}},
        {"event": "content-block-finish", "content_block": {"text": "no"}},
        {"event": "message-finish"},
        "odd",
        None,
    ):
        one.protocol_event(event, run_id=RUN)
    record = one.pop(RUN, 0)
    assert record is not None
    assert (record["text"], record["count"]) == ("ab", 2)


def test_streams_that_never_end() -> None:
    """Of too many open streams the text of the oldest is let go, which their record says."""
    many = Streams(lambda: 0)
    for number in range(MAX_OPEN_STREAMS + 10):
        many.token("x", run_id=UUID(int=number))
    many.token("y", run_id=UUID(int=8))
    many.token("z", run_id=UUID(int=8))
    gone = {"text": "", "inter_token_times": []}
    assert many.pop(UUID(int=8), 0) == {**gone, "count": 3, "cut_tokens": 3}
    assert many.pop(UUID(int=9), 0) == {**gone, "count": 1, "cut_tokens": 1}
    assert many.pop(UUID(int=9), 0) is None
    assert many.pop(UUID(int=10), 0) is not None


def test_a_stream_that_never_ends_is_cut_and_says_so() -> None:
    """Past its bound, tokens are counted and not kept; other streams have theirs whole."""
    one = Streams(lambda: 0, max_stream=10_000)
    for _ in range(1_000):
        one.token("x" * 104, run_id=RUN)
        one.token("y", run_id=OTHER) if one._open[RUN].cut < 10 else None
    record = one.pop(RUN, 0)
    assert record is not None
    assert (record["count"], record["cut_tokens"]) == (1_000, 950)
    assert record["text"] == "x" * 104 * 50
    assert len(record["inter_token_times"]) == 49
    other = one.pop(OTHER, 0)
    assert other is not None
    assert "cut_tokens" not in other and other["text"] == "y" * other["count"]


def test_one_token_longer_than_the_bound() -> None:
    """It is counted, and nothing after it is kept either: the text is a whole beginning."""
    one = Streams(lambda: 0, max_stream=10_000)
    for token in ("a", "b" * 20_000, "c"):
        one.token(token, run_id=RUN)
    record = one.pop(RUN, None)
    assert record == {"text": "a", "count": 3, "inter_token_times": [], "cut_tokens": 2}


def test_all_streams_together_are_bounded() -> None:
    """The bound of all holds however many there are, and short ones reserve little of it."""
    many = Streams(lambda: 0, max_streams=1_000_000)
    for _ in range(20):
        for number in range(100):
            many.token("x" * 1_000, run_id=UUID(int=number))
    kept = sum(len("".join(stream.pieces)) for stream in many._open.values())
    assert 300_000 < kept <= 1_000_000
    first = many.pop(UUID(int=0), 0)
    assert first is not None
    assert len(first["text"]) >= 3_000
    for number in range(100, 500):
        many.pop(UUID(int=number - 100), 0)
        many.token("x", run_id=UUID(int=number))
    last = many.pop(UUID(int=499), 0)
    assert last is not None
    assert last["text"] == "x", "what ended has given its room back"


def test_all_streams_are_looked_at_rarely() -> None:
    """What a token costs does not grow with the streams that are open, with and without room."""
    seen = 0

    class Watched(dict[UUID, Any]):
        def items(self) -> Any:
            nonlocal seen
            seen += len(self)
            return super().items()

        def values(self) -> Any:
            nonlocal seen
            seen += len(self)
            return super().values()

    for room in (100_000_000, 100_000):
        seen = 0
        many = Streams(lambda: 0, max_streams=room)
        many._open = Watched()
        for number in range(2_000):
            many.token("x", run_id=UUID(int=number))
        assert 0 < seen < 4 * 2_000


def test_what_ended_gives_its_room_to_the_next() -> None:
    """At once, where all room was taken, and before all is counted anew."""
    many = Streams(lambda: 0, max_streams=600 * 1024)
    for number in range(600):
        many.token("x" * 900, run_id=UUID(int=number))
    many.pop(UUID(int=0), None)
    many.token("x" * 900, run_id=UUID(int=600))
    record = many.pop(UUID(int=600), None)
    assert record is not None and "cut_tokens" not in record


@pytest.mark.parametrize("lost", [-1_000_000, 1_000_000])
def test_what_threads_lose_in_counting_is_found(lost: int) -> None:
    """The bound holds, and room that is there is given, after changes that were lost."""
    now = 0
    many = Streams(lambda: now, max_streams=1_000_000)
    for number in range(2_000):
        now += SILENCE // 10_000
        if number == 300:
            many._granted += lost  # as two threads do that change it at the same moment
        many.token("x" * 900, run_id=UUID(int=number))
    kept = sum(len("".join(stream.pieces)) for stream in many._open.values())
    assert 800_000 < kept <= 1_000_000


def test_streams_that_went_silent_make_room() -> None:
    """With all room taken by streams that never ended, a new one is whole; what lives is kept, and
    of the silent ones all but the oldest."""
    now = 0
    many = Streams(lambda: now, max_streams=1_000_000)
    for number in range(1_000):
        many.token("x" * 900, run_id=UUID(int=number))
    now = SILENCE + 1
    many.token("lives", run_id=UUID(int=900))
    new = UUID(int=1_000)
    for _ in range(200):
        many.token("new", run_id=new)
    record = many.pop(new, None)
    assert record is not None and (record["text"], record["count"]) == ("new" * 200, 200)
    assert "cut_tokens" not in record
    silent, alive = many.pop(UUID(int=0), None), many.pop(UUID(int=900), None)
    assert silent is not None and (silent["text"], silent["cut_tokens"]) == ("", 1)
    assert alive is not None and alive["text"].startswith("x" * 900)
    kept = many.pop(UUID(int=800), None)
    assert kept is not None and kept["text"] == "x" * 900
