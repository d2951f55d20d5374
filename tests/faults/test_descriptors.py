"""Descriptors: those that others close, and those that we must not keep. Row 50."""

from __future__ import annotations

import json
from pathlib import Path

from asynctrack import tracker
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import Ground, end, finish, outputs, start_child
from tests.support.descriptors import open_below
from tests.support.faults import Hang

PROGRAM = """
    import json, os, sys, uuid
    from asynctrack import tracker
    from tests.faults.light import Place
    place, own = sys.argv[1:]

    def track(handler, value, count):
        for number in range(count):
            handler.on_chain_end([value, number], run_id=uuid.uuid4())

    with tracker(Place.from_json(place).run(), max_batch_events=10, max_delay=3600) as handler:
        track(handler, "before", 5)
        assert handler.flush(120)
        looks = []
        while len(looks) < 500 or len(set(looks[-500:])) > 1:
            looks.append(tuple(sorted(os.listdir("/proc/self/fd"))))
        sockets = [f"/proc/self/fd/{number}" for number in looks[-1]]
        kept = [os.readlink(one) for one in sockets if os.path.lexists(one)]
        os.closerange(3, 1024)
        files = [open(f"{own}-{number}", "w") for number in range(60)]
        for number, file in enumerate(files):
            file.write(f"first {number} ")
            file.flush()
        track(handler, "after", 25)
        assert handler.flush(120)
        for number, file in enumerate(files):
            file.write(f"second {number}")
            file.flush()
    for number, file in enumerate(files):
        file.write(", third")
        file.close()
        with open(file.name) as again:
            assert again.read() == f"first {number} second {number}, third", file.name
    end = handler.statistics()
    print(json.dumps([sum("socket" in one for one in kept), end.accepted, end.delivered]))
"""


def test_connections_that_others_close(ground: Ground, tmp_path: str) -> None:
    """New ones are made, all is delivered once, and the program's own files are left alone."""
    child = start_child(PROGRAM, ground.place.to_json(), f"{tmp_path}/own")
    out, errors = finish(child)
    assert child.returncode == 0, errors
    assert "Traceback" not in errors, errors
    sockets, accepted, delivered = json.loads(out)
    assert sockets >= 3, "the pair that wakes the loop, and a connection to S3"
    assert accepted == delivered == 30
    expected = [["before", number] for number in range(5)]
    expected += [["after", number] for number in range(25)]
    assert outputs(ground.events()) == expected
    assert ground.problems() == []


def test_trackers_opened_and_closed_while_s3_is_away(ground: Ground, state_home: Path) -> None:
    """A service with a tracker for each request keeps no file open, whatever was under way."""
    ground.proxy.add(Hang(), method="PUT")
    for _ in range(3):
        with tracker(ground.run(), close_patience=0.1, max_batch_events=2) as handler:
            for number in range(20):
                end(handler, number)
        assert handler.statistics().spooled == 20
        until_in_thread(lambda: not open_below(state_home))
    ground.proxy.heal()
    with tracker(ground.run()) as handler:
        end(handler)
        until_in_thread(lambda: handler.statistics().replayed == 60)
    assert len(ground.events()) == 61 and ground.problems() == []
