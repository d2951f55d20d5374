"""Streamed tokens: one record for each stream, at a cost near zero for each token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from asynctrack import _payload

MAX_OPEN_STREAMS: Final = 10_000
"""More streams than this are forgotten, oldest first."""


class _Stream:
    __slots__ = ("pieces", "times")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.pieces: list[str] = []


class Streams:
    """The streams that are open, with what came in.

    Args:
        perf_ns: Monotonic clock, in nanoseconds.
    """

    def __init__(self, perf_ns: Callable[[], int]) -> None:
        self._perf_ns = perf_ns
        self._open: dict[UUID, _Stream] = {}

    def token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note a token: a string, or a list of content blocks."""
        stream = self._open.get(run_id)
        if stream is None:
            stream = self._begin(run_id)
        stream.times.append(self._perf_ns())
        stream.pieces.append(token if token.__class__ is str else _text_of(token))

    def protocol_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note an event of LangChain's streaming protocol; only its deltas carry content."""
        if isinstance(event, dict) and event.get("event") == "content-block-delta":
            delta = event.get("delta") or event.get("content_block") or event.get("content")
            self.token(delta, run_id=run_id)

    def pop(self, run_id: UUID, started: int | None) -> dict[str, Any] | None:
        """Return the record of a stream that has ended, or None where nothing was streamed.

        Args:
            run_id: The model call.
            started: When the call started, on the monotonic clock in nanoseconds, or None.

        Returns:
            ``text``; ``count`` of tokens; ``time_to_first_token`` in seconds, where the start is
            known; ``inter_token_times``, the seconds between one token and the next.
        """
        stream = self._open.pop(run_id, None)
        if stream is None:
            return None
        times = stream.times
        record: dict[str, Any] = {"text": "".join(stream.pieces), "count": len(times)}
        if started is not None:
            record["time_to_first_token"] = round((times[0] - started) / 1e9, 6)
        record["inter_token_times"] = [
            round((after - before) / 1e9, 6)
            for before, after in zip(times, times[1:], strict=False)
        ]
        return record

    def _begin(self, run_id: UUID) -> _Stream:
        stream = self._open[run_id] = _Stream()
        if len(self._open) > MAX_OPEN_STREAMS:
            try:
                self._open.pop(next(iter(self._open)), None)
            except (StopIteration, RuntimeError):
                pass  # another thread changed it at this very moment: the next stream tries again
        return stream


def _text_of(token: Any) -> str:
    """Return the text in content blocks; what holds no text counts as a token all the same."""
    if isinstance(token, list):
        return "".join(map(_text_of, token))
    if isinstance(token, dict):
        for field in ("text", "reasoning", "args", "arguments"):
            if isinstance(token.get(field), str):
                return str(token[field])
        return ""
    return "" if token is None else _payload.safe_str(token)
