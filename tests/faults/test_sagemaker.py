"""SageMaker in trouble: the last value of each name is written, and S3 goes on. Rows 8 and 9.

Row 10, AWS's limits, is in ``tests/e2e/test_run_record.py``, and so are outages.
"""

from __future__ import annotations

import random
import time

import pytest

from asynctrack import tracker
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import Ground, end
from tests.support.faults import Answer
from tests.support.proxy import FaultProxy


def test_throttled_updates_of_many_names(ground: Ground, sagemaker_proxy: FaultProxy) -> None:
    """10,000 writes to 200 names, throttled: the last value of each, one call a second at most."""
    randomness = random.Random(8)
    last: dict[str, float] = {}
    sagemaker_proxy.add(
        Answer(400, code="ThrottlingException"), operation="UpdateTrialComponent", times=2
    )
    began = time.monotonic()
    with tracker(ground.run(), max_delay=0.1) as handler:
        for _ in range(10_000):
            name, value = f"p{randomness.randrange(200)}", randomness.random()
            handler.log_parameters({name: value})
            last[name] = value
        until_in_thread(lambda: handler.statistics().delivered == 10_000)
    found = ground.parameters()
    assert {name: found[name] for name in last} == last
    calls = [one for one in sagemaker_proxy.requests if one.operation == "UpdateTrialComponent"]
    assert 3 <= len(calls) <= 1 + time.monotonic() - began


@pytest.mark.parametrize(
    ("status", "code"), [(400, "ConflictException"), (400, "ResourceNotFound")]
)
def test_conflicts_and_what_is_not_there_yet(
    status: int, code: str, ground: Ground, sagemaker_proxy: FaultProxy
) -> None:
    """Tried again until it works, by one layer; meanwhile events are delivered."""
    rule = sagemaker_proxy.add(Answer(status, code=code), times=2)
    with tracker(ground.run(), max_delay=0.1) as handler:
        handler.log_parameters({"a": 1})
        end(handler)
        until_in_thread(lambda: handler.statistics().delivered == 2)
    assert rule.applied == 2
    assert ground.parameters()["a"] == 1
    assert handler.statistics().run_updates >= 1
