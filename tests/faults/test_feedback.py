"""Row 53: a program that logs into its tracker, and what our own work writes into its log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.faults.ground import Ground, finish, start_child

FEEDS_BACK = """
    import asyncio, json, logging, sys, threading, uuid
    from langchain_core.runnables import RunnableLambda
    from asynctrack import tracker
    from tests.faults.light import Place

    how, options = sys.argv[2], json.loads(sys.argv[3])
    log = logging.getLogger("program")
    chain = RunnableLambda(lambda text: text).with_config(run_name="of a record")
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    seen = set()

    class IntoTheTracker(logging.Handler):
        def emit(self, record):
            seen.add(record.name.partition(".")[0])
            text = record.getMessage()[:200]
            if how == "event":
                handler.on_custom_event("log", text, run_id=uuid.uuid4())
            elif how == "chain":
                chain.invoke(text, {"callbacks": [handler]})
            elif how == "parameters":
                handler.log_parameters({"last record": text})
                handler.log_metric("records", 1)
            elif how == "loop":
                async def forward():
                    handler.on_custom_event("log", text, run_id=uuid.uuid4())
                asyncio.run_coroutine_threadsafe(forward(), loop)

    run = Place.from_json(sys.argv[1]).run()
    with tracker(run, max_delay=0.05, **options) as handler:
        logging.basicConfig(level=logging.DEBUG, handlers=[IntoTheTracker()])
        for number in range(options.get("max_buffer_events", 20) * 2):
            log.info("the program's own %d", number)
        while handler.statistics().delivered < 5:
            threading.Event().wait(0.01)
        log.info("and one more")
        # What was handed to the loop before this has got there.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)
    statistics = handler.statistics()
    assert statistics.balanced
    dropped = dict(statistics.dropped)
    own = dropped.pop("own_record", 0)
    print(json.dumps({"accepted": statistics.accepted, "delivered": statistics.delivered,
        "dropped": dropped, "own": own, "seen": sorted(seen)}))
"""


def run(ground: Ground, how: str, **options: Any) -> dict[str, Any]:
    child = start_child(FEEDS_BACK, ground.place.to_json(), how, json.dumps(options))
    printed, errors = finish(child)
    assert child.returncode == 0, errors
    return dict(json.loads(printed))


@pytest.mark.parametrize(("how", "each"), [("event", 1), ("chain", 2), ("parameters", 2)])
def test_our_own_records_become_no_events(how: str, each: int, ground: Ground) -> None:
    """With every record of every library logged into the tracker, only the program's own are."""
    found = run(ground, how)
    assert {"botocore", "aiobotocore", "program"} <= set(found["seen"]), "our work is in the log"
    assert found["accepted"] == found["delivered"] == 41 * each
    assert found["own"] > 20 and found["dropped"] == {}


def test_records_that_are_handed_on_to_a_loop(ground: Ground) -> None:
    """What a handler hands over to an event loop is known there for what it is."""
    found = run(ground, "loop")
    assert "botocore" in found["seen"]
    assert found["accepted"] == found["delivered"] == 41
    assert found["own"] > 20 and found["dropped"] == {}


@pytest.mark.parametrize("overflow", ["drop_newest", "block"])
def test_our_own_warnings_become_no_events(overflow: str, ground: Ground) -> None:
    """A warning of a dropped event leads to none; nobody waits while a handler's lock is held."""
    options = {"durability": "memory", "overflow": overflow, "max_buffer_events": 10}
    found = run(ground, "event", **options)
    assert "asynctrack" in found["seen"]
    assert found["accepted"] + sum(found["dropped"].values()) == 21
    assert found["accepted"] == found["delivered"] >= 5
