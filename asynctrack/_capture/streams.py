"""Streamed tokens: one record for each stream, at nearly no cost for each token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from asynctrack._capture.doubles import Doubles
from asynctrack._common import marker

MAX_OPEN_STREAMS: Final = 10_000
"""Most open streams whose text is kept; one more drops the text of the oldest."""
MAX_STREAM_SIZE: Final = 16 * 1024 * 1024
"""Most that one stream may take: its characters, and ``TOKEN_SIZE`` for each token."""
MAX_STREAMS_SIZE: Final = 64 * 1024 * 1024
"""Most that all open streams together may take. When a stream reaches either bound, its further
tokens are counted and not kept."""
SILENCE: Final = 60_000_000_000
"""Nanoseconds without a token after which a stream has to make room for others."""
_LOOK_AGAIN: Final = 1_000_000_000
"""Nanoseconds after which silent streams are looked for again, where there were none."""
TOKEN_SIZE: Final = 96
"""Bytes that a token takes besides its characters: its time, and two entries of lists."""
_GRANT: Final = 1024
_MAX_GRANT: Final = 256 * 1024
"""Room that a stream gets at a time: the first time, and at most. So the bounds are checked rarely,
and many short streams reserve little."""


_CONTENT: Final = ("text", "reasoning", "thinking", "args", "arguments", "partial_json")
"""Fields of content blocks in which a token's characters come, in the order of their names."""


class _Stream:
    __slots__ = (
        "by_protocol", "calls", "cut", "granted", "handlers", "others", "pieces", "room", "times"
    )  # fmt: skip

    def __init__(self) -> None:
        self.times: list[int] = []
        self.pieces: list[str] = []
        self.others: list[int] = []
        """The tokens that are no text: reasoning, arguments of tool calls."""
        self.room = 0
        self.granted = 0
        self.cut = 0
        self.handlers = 1
        """How many handlers LangChain believes to have: each token comes so many times."""
        self.by_protocol = False
        """Whether its tokens come as events of LangChain's streaming protocol."""
        self.calls = 0
        """How often the present token has come, where there are several."""


class Streams:
    """The open streams and their tokens.

    Args:
        perf_ns: Monotonic clock, in nanoseconds.
        doubles: The runs whose id another one has.
        max_stream: Bound of one stream.
        max_streams: Bound of all of them.
    """

    def __init__(
        self,
        perf_ns: Callable[[], int],
        doubles: Doubles | None = None,
        *,
        max_stream: int = MAX_STREAM_SIZE,
        max_streams: int = MAX_STREAMS_SIZE,
    ) -> None:
        self._perf_ns = perf_ns
        self._doubles = doubles or Doubles()
        self._renamed = self._doubles.open
        self._max_stream = max_stream
        self._max_streams = max_streams
        self._open: dict[UUID, _Stream] = {}
        self._let_go: dict[UUID, int] = {}  # tokens of streams whose text is gone
        # What is granted to all open streams. Threads that change it at the same moment may lose a
        # change, so it is counted anew after half as many grants as there are streams. No lock: a
        # forked child, or a signal handler, could find it taken by one who never gives it back.
        self._granted = 0
        self._grants = 0
        self._look_again = 0

    def token(self, token: Any, *, run_id: UUID, chunk: Any = None, **kwargs: Any) -> None:
        """Note a token; one without content, such as a role or the usage, is none.

        Args:
            token: A string, or a list of content blocks.
            run_id: The model call.
            chunk: What the token came in, which says more where the token is empty.
        """
        if token.__class__ is not str or not token or self._renamed:
            self._other_token(token, run_id, chunk)
            return
        stream = self._open.get(run_id)
        if stream is None:
            stream = self._begin(run_id)
        stream.room = room = stream.room - len(token) - TOKEN_SIZE
        if room < 0 and not self._grant(stream):
            return
        stream.times.append(self._perf_ns())
        stream.pieces.append(token)

    def _other_token(self, token: Any, run_id: UUID, chunk: Any) -> None:
        """Note a token that is no plain text, or of a run with a new id."""
        text = _text_of(token) or _text_in(chunk)
        if not text:
            return
        run_id = self._doubles.of(run_id)
        stream = self._open.get(run_id) or self._begin(run_id)
        stream.room -= len(text) + TOKEN_SIZE
        if stream.room < 0 and not self._grant(stream):
            return
        if not _is_text(token):
            stream.others.append(len(stream.times))
        stream.times.append(self._perf_ns())
        stream.pieces.append(text)

    def has_tokens(self, run_id: UUID) -> bool:
        """Return whether a token of a stream has come."""
        stream = self._open.get(run_id)
        return stream is not None and bool(stream.times)

    def doubled(self, run_id: UUID) -> None:
        """Note that each token of a stream that has not begun comes once more."""
        stream = self._open.get(run_id) or self._begin(run_id)
        stream.handlers += 1

    def protocol_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note an event of LangChain's streaming protocol; only its deltas carry content."""
        if isinstance(event, dict) and event.get("event") == "content-block-delta":
            stream = self._open.get(self._doubles.of(run_id))
            if stream is not None and stream.times and not stream.by_protocol:
                return  # the model says its tokens itself
            delta = event.get("delta") or event.get("content_block") or event.get("content")
            self.token(delta, run_id=run_id)
            stream = self._open.get(self._doubles.of(run_id))
            if stream is not None:
                stream.by_protocol = True

    def pop(
        self, run_id: UUID, started: int | None, trace_started: int | None = None
    ) -> dict[str, Any] | None:
        """Return the record of a stream that has ended, or None if nothing was streamed.

        Args:
            run_id: The model call.
            started: When the call started, on the monotonic clock in nanoseconds, or None.
            trace_started: The same of its trace.

        Returns:
            ``text``; ``count`` of tokens; ``time_to_first_token`` in seconds, if the start is
            known; ``inter_token_times``, the seconds between one token and the next; if the stream
            was too long, ``cut_tokens``: how many at its end are counted and not kept; and
            ``trace_time_to_first_token``, the seconds that the trace took to the first one that
            is text, which its user waited for.
        """
        stream = self._open.pop(run_id, None)
        if stream is None:
            if run_id not in self._let_go:
                return None
            stream = _Stream()
            stream.cut = self._let_go.pop(run_id, 0)
        self._granted -= stream.granted
        times, cut = stream.times, stream.cut
        if not times and not cut:
            return None
        text = _joined(stream.pieces)
        record: dict[str, Any] = {"text": text, "count": len(times) + cut}
        if started is not None and times:
            record["time_to_first_token"] = round((times[0] - started) / 1e9, 6)
        record["inter_token_times"] = [
            round((after - before) / 1e9, 6)
            for before, after in zip(times, times[1:], strict=False)
        ]
        if cut:
            record["cut_tokens"] = cut
        others = stream.others
        first = next((n for n in range(len(others)) if others[n] != n), len(others))
        if trace_started is not None and first < len(times):
            record["trace_time_to_first_token"] = round((times[first] - trace_started) / 1e9, 6)
        return record

    def _begin(self, run_id: UUID) -> _Stream:
        stream = self._open[run_id] = _Stream()
        if run_id in self._let_go:
            stream.cut, stream.room = self._let_go.pop(run_id, 0), -1
        if len(self._open) > MAX_OPEN_STREAMS:
            try:
                self._forget_text(next(iter(self._open)))
            except (StopIteration, RuntimeError):
                pass  # another thread changed it at this moment: the next stream tries again
        return stream

    def _forget_text(self, run_id: UUID) -> None:
        """Drop the text of a stream; keep how many tokens it had."""
        gone = self._open.pop(run_id, None)
        if gone is not None:
            self._granted -= gone.granted
            self._let_go[run_id] = len(gone.times) + gone.cut
        if len(self._let_go) > MAX_OPEN_STREAMS:
            self._let_go.pop(next(iter(self._let_go)), None)

    def _grant(self, stream: _Stream) -> bool:
        """Give a stream room for a token that did not fit; False if it is not to be kept."""
        if stream.handlers > 1:  # it never has room to spare, so each of its tokens comes here
            stream.calls += 1
            if stream.calls % stream.handlers != 1:
                stream.room = 0
                return False
        wanted = max(-stream.room, min(_MAX_GRANT, max(_GRANT, stream.granted)))
        wanted = max(-stream.room, min(wanted, self._max_stream - stream.granted))
        if stream.handlers > 1:
            wanted = -stream.room
        too_long = stream.cut or stream.granted + wanted > self._max_stream
        if too_long or not self._spare(wanted, stream):
            stream.cut += 1
            stream.room = -1  # and stays below zero
            return False
        stream.room += wanted
        stream.granted += wanted
        self._granted += wanted
        return True

    def _spare(self, wanted: int, asking: _Stream) -> bool:
        """Return whether there is room for more; forget silent streams if that makes room.

        LangChain does not say that a model call was cancelled: its stream never ends.
        """
        self._grants += 1
        if 2 * self._grants >= len(self._open):
            self._granted = sum(stream.granted for stream in list(self._open.values()))
            self._grants = 0
        if self._granted + wanted <= self._max_streams:
            return True
        now = self._perf_ns()
        if now < self._look_again:
            return False
        for run_id, stream in list(self._open.items()):
            if stream is not asking and stream.times and stream.times[-1] < now - SILENCE:
                try:
                    self._forget_text(run_id)
                except (StopIteration, RuntimeError):
                    pass  # as above
                if self._granted + wanted <= self._max_streams:
                    return True
        self._look_again = now + _LOOK_AGAIN
        return False


def _text_of(token: Any) -> str:
    """Return the characters in content blocks."""
    if isinstance(token, list):
        return "".join(map(_text_of, token))
    if isinstance(token, dict):
        for field in _CONTENT:
            if isinstance(token.get(field), str):
                return str(token[field])
        return ""
    return "" if token is None else marker.safe_str(token)


def _text_in(chunk: Any) -> str:
    """Return what a chunk without text holds: reasoning, or arguments of tool calls."""
    message = getattr(chunk, "message", None)
    more = getattr(message, "additional_kwargs", None)
    reasoning = more.get("reasoning_content") if isinstance(more, dict) else None
    if isinstance(reasoning, str) and reasoning:
        return reasoning
    calls = getattr(message, "tool_call_chunks", None)
    return _text_of(calls) if isinstance(calls, list) else ""


def _is_text(token: Any) -> bool:
    """Return whether content blocks hold text that the user sees."""
    if isinstance(token, list):
        return any(map(_is_text, token))
    return bool(token.get("text")) if isinstance(token, dict) else bool(token)


def _joined(pieces: list[str]) -> str:
    """Return a text from its pieces, where a character may be cut in two."""
    text = "".join(pieces)
    try:
        text.encode()
    except UnicodeEncodeError:  # UTF-16 brings the two halves of a pair together
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text
