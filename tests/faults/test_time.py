"""Clocks that jump, and midnight. Rows 33 and 34."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from asynctrack import tracker
from asynctrack._backends.clock import ServerClock
from asynctrack._capture.capture import Capture
from tests.e2e.waiting import Wall, until_in_thread
from tests.faults.ground import Ground, end, outputs
from tests.support.auditor import audit_folder, events_in_folder
from tests.support.proxy import FaultProxy

HOUR = 3_600
YEAR = 365 * 86_400


class WallClock:
    """The wall clock of this process, set to another time; the monotonic one goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset = 0.0
        time_ns, now = time.time_ns, time.time

        def shown_ns() -> int:
            return time_ns() + int(self.offset * 1e9)

        monkeypatch.setattr(time, "time_ns", shown_ns)
        monkeypatch.setattr(time, "time", lambda: now() + self.offset)
        # What captures took hold of it when it was imported: here, and not by whichever test is
        # the first to track, for good and with that test's offset.
        monkeypatch.setitem(Capture.__init__.__kwdefaults__, "time_ns", shown_ns)
        monkeypatch.setattr(ServerClock.__init__, "__defaults__", (time.time,))


@pytest.mark.parametrize("jump", [HOUR, -HOUR, YEAR, -YEAR])
def test_timers_do_not_follow_the_wall_clock(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set while events wait: they are cut after max_delay, the close is in time."""
    clock = WallClock(monkeypatch)
    # A timer that followed it would go off in an hour, or in a year.
    with tracker(tmp_path, max_delay=0.2) as handler:
        end(handler, 0)
        clock.offset = jump
        end(handler, 1)
        until_in_thread(lambda: handler.statistics().delivered == 2)
        clock.offset = -jump
        end(handler, 2)
        began = time.monotonic()
    assert time.monotonic() - began < 60, "the close_timeout is two minutes"
    assert outputs(events_in_folder(tmp_path)) == [0, 1, 2]
    assert audit_folder(tmp_path).events == 3


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_metric_times_are_ones_that_aws_takes(
    jump: float, ground: Ground, sagemaker_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric logged while the clock was wrong by a year is sent with a time AWS accepts."""
    clock = WallClock(monkeypatch)
    with tracker(ground.run()) as handler:
        clock.offset = jump
        handler.log_metric("score", 1.0, step=1)
        clock.offset = 0.0
    assert (handler.statistics().metric_points, handler.statistics().metric_points_unsent) == (1, 0)
    (sent,) = [
        json.loads(one.body)["MetricData"]
        for one in sagemaker_proxy.requests
        if one.operation == "BatchPutMetrics"
    ]
    away = float(sent[0]["Timestamp"]) - time.time()
    assert -14 * 86_400 < away < 2 * HOUR


def test_midnight_and_a_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted before midnight, replayed after: under the key of the day of its first event."""
    clock = WallClock(monkeypatch)
    wall = Wall(tmp_path)
    seconds_left = 86_400 - time.time() % 86_400
    clock.offset = seconds_left - 30  # before midnight, UTC, whatever holds the test up
    with tracker(wall.folder, run_name="r", close_patience=0.3) as handler:
        end(handler, "before")
        day = time.gmtime(time.time())
        clock.offset += 60
        end(handler, "after")
    assert handler.statistics().spooled == 2
    wall.mend()
    clock.offset += 3 * 86_400
    with tracker(tmp_path / "next") as handler:
        until_in_thread(lambda: handler.statistics().replayed == 2)
    (found,) = audit_folder(wall.folder).objects
    assert f"dt={time.strftime('%Y-%m-%d', day)}/" in found.key
    assert outputs(events_in_folder(wall.folder)) == ["before", "after"]
    (manifest,) = wall.folder.rglob("*.replayed-*.json")
    assert [one["name"] for one in json.loads(manifest.read_text())["artifacts"]] == [
        found.key.partition("run=r/")[2]
    ]
