"""What the handlers talk to: capture an event, get it into the buffer, or count it as dropped."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import TimeoutError as ThreadTimeout
from typing import Any, Final, Protocol

from asynctrack._buffer.buffer import Buffer
from asynctrack._buffer.holding import Holding
from asynctrack._buffer.packed import Packed
from asynctrack._buffer.waiters import AsyncWaiter, ThreadWaiter
from asynctrack._capture.capture import Capture
from asynctrack._capture.observations import Observations
from asynctrack._capture.spans import OpenSpan
from asynctrack._common import careful, marker, payload
from asynctrack._common.notices import Notices
from asynctrack._common.own import comes_of_own, handles_a_record, is_own
from asynctrack._engine.flush import Flush
from asynctrack._statistics import Statistics

SPOOL_WAIT: Final = 5.0
"""Seconds that a callback waits at the most, with memory full, for a disk that has not refused to
take more: it takes a millisecond, unless the worker or the disk is held up."""

_FULL: Final = (
    "The buffer is full: events come in faster than they can be uploaded, or uploads fail."
)
_ROOM: Final = "Raise max_buffer_bytes, max_buffer_events or upload_concurrency."
_NEVER_WAITS: Final = (
    f"{_FULL} log_parameters and log_metric never wait for room. {_ROOM} The Run gets the value all"
    " the same."
)
_IS_LOST: Final = (
    f"{_FULL} log_feedback never waits for room. {_ROOM} Log it again later:"
    " open_run(...).log_feedback(...) says whether it is stored."
)
_KINDS: Final = {_NEVER_WAITS: "drop:own", _IS_LOST: "drop:feedback"}


class DriverView(Protocol):
    """What the sink needs of the driver."""

    def request_flush(self) -> ThreadFuture[bool]: ...

    def runs_here(self) -> bool: ...

    def wake(self) -> None: ...

    @property
    def absent(self) -> bool: ...


class Sink:
    """Takes what the callbacks captured; shared by all threads and event loops.

    Args:
        run_name: What is tracked into: experiment and Run.
        capture: Turns callbacks into bytes.
        buffer: Where events go.
        observations: Where the user's parameters and metrics go for the Run.
        driver: Delivers, and is asked to flush.
        notices: Rate-limited warnings.
        block: Whether a callback waits when the buffer is full.
        block_timeout: The longest wait, in seconds, or None.
        statistics: Reads all counters.
        holding: Has the traces that are held until their root ends; None where none is.
    """

    def __init__(
        self,
        *,
        run_name: str,
        capture: Capture,
        buffer: Buffer,
        observations: Observations,
        driver: DriverView,
        notices: Notices,
        block: bool,
        block_timeout: float | None,
        statistics: Callable[[], Statistics],
        holding: Holding | None = None,
    ) -> None:
        self.run_name = run_name
        self.capture = capture
        self.statistics = statistics
        self._buffer = buffer
        self._holding = holding
        self._observations = observations
        self._driver = driver
        self._notices = notices
        self._block = block
        self._block_timeout = block_timeout
        capture.events.spans.on_abandon = self._abandon
        # Accepts an event if there is room for it now. Where callbacks wait for room, all of them
        # do, and the tenth that they leave is for what never waits.
        self.put_nowait = self._put_evenly if block else buffer.put_nowait

    def _put_evenly(self, body: bytes | Packed, sheddable: bool) -> bool:
        return self._buffer.put_nowait(body, True)

    async def put(self, body: bytes | Packed, sheddable: bool, cause: object = None) -> None:
        """Await room for an event, or drop and count it, as the options say.

        Args:
            body: The encoded event.
            sheddable: It may not use the part of the buffer reserved for ends and errors.
            cause: What the callback was given first: the exception, where it tells of one.
        """
        if _ends(cause) or _task_is_cancelled():
            self._put_last(body)
            return
        if not self._may_wait(len(body)):
            self._drop_newest(body, sheddable)
            return
        waiter = AsyncWaiter(body)
        reason = self._buffer.enqueue(waiter)
        if reason is not None:
            self._drop(reason)
            return
        try:
            timeout = self._patience
            if timeout is None:
                accepted = await waiter.outcome
            else:
                accepted = await asyncio.wait_for(asyncio.shield(waiter.outcome), timeout)
            self._ended(accepted)
        except (TimeoutError, asyncio.TimeoutError):  # two types until 3.10
            self._give_up(waiter)
        except asyncio.CancelledError:
            if self._buffer.withdraw(waiter):
                self._drop("cancelled")
            raise

    def put_blocking(
        self,
        body: bytes | Packed,
        sheddable: bool,
        cause: object = None,
        *,
        may_wait: bool = True,
    ) -> None:
        """Wait in this thread for room for an event, or drop and count it, as the options say.

        Args:
            body: The encoded event.
            sheddable: As for ``put``.
            cause: As for ``put``.
            may_wait: Whether this thread may wait: not where an event loop runs in it.
        """
        if _ends(cause):
            self._put_last(body)
            return
        # While a record is handled, its handler's lock is held. The worker needs that for what its
        # libraries log: whoever waited for the worker here would wait for ever.
        if not may_wait or not self._may_wait(len(body)) or handles_a_record():
            self._drop_newest(body, sheddable)
            return
        waiter = ThreadWaiter(body)
        reason = self._buffer.enqueue(waiter)
        if reason is not None:
            self._drop(reason)
            return
        try:
            self._ended(waiter.outcome.result(self._patience))
        except (TimeoutError, ThreadTimeout):  # two types until 3.10
            self._give_up(waiter)
        except BaseException:  # KeyboardInterrupt: leave nothing behind that waits
            if self._buffer.withdraw(waiter):
                self._drop("cancelled")
            raise

    def put_without_waiting(self, body: bytes | Packed, sheddable: bool) -> None:
        """Accept an event if there is room for it now, or drop and count it."""
        buffer = self._buffer
        if not (buffer.put_nowait(body, True) if sheddable else buffer.put_ahead(body)):
            self._drop(self._buffer.closed_reason or "buffer_full")

    def _may_wait(self, length: int) -> bool:
        """Whether a callback waits: for delivery, or for a disk that has not refused to take it."""
        if self._driver.runs_here():
            return False
        if self._driver.absent:
            self._driver.wake()  # it may be had now, or the disk takes something in this thread
            return False
        return self._block or self._buffer.disk_may_help(length)

    @property
    def _patience(self) -> float | None:
        return self._block_timeout if self._block else SPOOL_WAIT

    def _ended(self, accepted: bool) -> None:
        if not accepted:  # the buffer has counted it, and knows why
            self._tell_dropped(self._buffer.closed_reason or "buffer_full")

    def _give_up(self, waiter: AsyncWaiter | ThreadWaiter) -> None:
        if self._buffer.withdraw(waiter):
            self._drop("block_timeout" if self._block else "buffer_full")
            if not self._block:
                self._buffer.disk_answered(False)  # it hangs: the next ones do not wait as well

    def leaves_out(self) -> bool:
        """Tell whether our own work led here; count it then. No warning: it would come here too."""
        if not comes_of_own():
            return False
        self._buffer.drop("own_record")
        return True

    def capture_failed(self, callback: str, error: Exception) -> None:
        """Count an event whose capture raised; the chain goes on."""
        self._buffer.drop("capture_failed")
        self._notices.warn(
            "capture_failed",
            f"asynctrack could not capture {callback}: {type(error).__name__} at"
            f" {_place(error)}. The event is counted as dropped, the chain goes on."
            " Please report this.",
        )

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Store the user's parameters as an event and hand them over for the Run."""
        if is_own() and self.leaves_out():
            return
        try:
            if not hasattr(parameters, "items"):
                self._drop(
                    "invalid_parameters",
                    "log_parameters takes a mapping of names to values, not"
                    f" {marker.type_name(parameters)}.",
                )
                return
            values = {marker.safe_str(name): value for name, value in parameters.items()}
            body = self.capture.events.user_value("parameters", None, careful.to_plain(values))
        except Exception as error:
            self.capture_failed("log_parameters", error)
            return
        self._put_own(body)
        # What goes to the Run is what was stored: plain, and without secrets.
        data = payload.decode(body)["data"]
        if data.get("$cut") != "redaction":
            self._observations.parameters(data)

    def log_metric(self, name: str, value: float, step: int | None) -> None:
        """Store a metric as an event and hand it over for the Run."""
        if is_own() and self.leaves_out():
            return
        text = marker.safe_str(name)
        try:
            number = float(value)
            whole = None if step is None else int(step)
        except Exception:
            # Whatever __float__ raises. The name is not told: it may hold a secret.
            self._drop(
                "invalid_metric",
                "log_metric takes a number and a whole step, not"
                f" {marker.type_name(value)} and {marker.type_name(step)}.",
            )
            return
        now = time.time_ns()
        data = {"name": text, "value": number, "step": whole}
        body = self.capture.events.user_value("metric", text, data)
        self._put_own(body)
        # As in log_parameters. Where redaction failed there is no name.
        stored = payload.decode(body).get("name")
        if (
            isinstance(stored, str)
            and len(stored) <= 255
            and (math.isfinite(number) or not self._observations.finite)
            and (whole is None or 0 <= whole < 2**31)
        ):
            self._observations.metric(stored, number, now, whole)
        else:
            self._observations.points_skipped += 1

    def log_feedback(self, record: dict[str, Any]) -> None:
        """Store feedback as an event; see ``feedback_record``."""
        if is_own() and self.leaves_out():
            return
        try:
            body = self.capture.events.feedback(record)
        except Exception as error:
            self.capture_failed("log_feedback", error)
            return
        self._put_own(body, _IS_LOST)

    def abandon_open(self) -> bool:
        """Say of every span that is open that it is abandoned, as the tracker ends.

        Returns:
            Whether there was room to say it of all of them.
        """
        spans = self.capture.events.spans
        for span_id in spans.ids():
            span = spans.take(span_id)
            body = None if span is None else self.capture.events.abandoned(span, "closed")
            if span is not None and body is not None and not self._buffer.put_nowait(body):
                spans.give_back(span)
                return False
        return self._holding is None or self._holding.close()

    def end_holding(self) -> None:
        """Count as dropped what is held in memory only, once nothing is accepted any more."""
        if self._holding is not None:
            self._holding.close()

    def _abandon(self, span: OpenSpan, reason: str, final: bool) -> bool:
        """Say of an open span that it is abandoned; False where there is no room to say it."""
        body = self.capture.events.abandoned(span, reason)
        if body is None or self._buffer.put_nowait(body, sheddable=True):
            return True  # ends and errors say more
        if final:
            self._drop(self._buffer.closed_reason or "buffer_full")
        return False

    def request_flush(self) -> Flush:
        """Start delivering everything accepted so far."""
        return Flush(self._driver.request_flush())

    def _put_own(self, body: bytes | Packed, full: str = _NEVER_WAITS) -> None:
        """Take the user's own values, which never wait; the reserved tenth is for them as well."""
        if not self._buffer.put_ahead(body):
            reason = self._buffer.closed_reason
            self._drop(reason or "buffer_full", None if reason else full)

    def _put_last(self, body: bytes | Packed) -> None:
        """Take what a chain says as it is cancelled, where there is room: it ends when it must."""
        if not self._buffer.put_ahead(body):
            self._drop(self._buffer.closed_reason or "cancelled")

    def _drop_newest(self, body: bytes | Packed, sheddable: bool) -> None:
        reason = self._buffer.closed_reason
        if reason is None and self.put_nowait(body, sheddable):
            return  # room was made meanwhile
        self._drop(reason or "buffer_full")

    def _drop(self, reason: str, text: str | None = None) -> None:
        self._buffer.drop(reason)
        self._tell_dropped(reason, text)

    def _tell_dropped(self, reason: str, text: str | None = None) -> None:
        kind = _KINDS.get(text or "", f"drop:{reason}")
        self._notices.warn(kind, f"asynctrack dropped an event. {text or _WHY[reason]}")


_WHY = {
    "buffer_full": f"{_FULL} Raise max_buffer_bytes or upload_concurrency, or use"
    " overflow='block'.",
    "block_timeout": "The buffer was full for longer than block_timeout. Raise"
    " max_buffer_bytes or upload_concurrency, and look for warnings about failing uploads.",
    "cancelled": "Its chain was cancelled while the buffer was full: a callback does not wait for"
    " room then.",
    "closed": "It came after the tracker was closed: await all tasks that use the handler"
    " before leaving its 'with' block.",
    "close_timeout": "It waited for room in the buffer when the tracker's close_timeout was over.",
    "worker_failed": "The worker has ended because of an error that was logged before.",
    "invalid_metric": "",
    "invalid_parameters": "",
}


def _ends(cause: object) -> bool:
    """Tell of a cancellation, a Ctrl-C or an exit, which must not wait for anything."""
    return isinstance(cause, BaseException) and not isinstance(cause, Exception)


def _task_is_cancelled() -> bool:
    """Tell whether the running task was cancelled and has not ended yet."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    if cancelling is not None:
        return bool(cancelling() > 0)
    return _ends(sys.exc_info()[1])  # until 3.10 all there is to see: it is being handled


def _place(error: BaseException) -> str:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return "an unknown place"
    return f"{step.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{step.tb_lineno}"
