"""Which Runs share their clients, and when these are made and closed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from threading import Event
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials, RefreshableCredentials

from asynctrack._backends import clients as clients_module
from asynctrack._backends import pool as pool_module
from asynctrack._backends.aws import AwsBackend
from asynctrack._backends.clients import AwsClients
from asynctrack._backends.identity import frozen
from asynctrack._backends.library import prepare
from asynctrack._backends.pool import KEPT, ClientPool
from asynctrack._backends.run import RunTarget, read_run
from asynctrack._errors import BackendError, PausingError, TransientError
from tests.faults.ground import elsewhere
from tests.faults.light import Place

PLACE = Place("http://127.0.0.1:9", "http://127.0.0.1:9", "AKIDMINE", "a-secret", "b", "e")


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    prepare()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[AwsClients]:
    """Those that have been closed."""
    found: list[AwsClients] = []
    original = AwsClients.aclose

    async def aclose(self: AwsClients) -> None:
        found.append(self)
        await original(self)

    monkeypatch.setattr(AwsClients, "aclose", aclose)
    return found


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch) -> Iterator[Making]:
    """How clients are made: held up, or failing, where a test wants it."""
    made = Making()
    original = AwsClients.open

    async def open_(self: AwsClients, target: RunTarget) -> None:
        made.begun += 1
        if made.gate is not None:
            await made.gate.wait()
        if made.error is not None:
            raise made.error
        await original(self, target)

    monkeypatch.setattr(AwsClients, "open", open_)
    yield made


class Making:
    def __init__(self) -> None:
        self.begun = 0
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None


def target(
    place: Place = PLACE, credentials: Callable[[], Any] | None = None, **session: Any
) -> RunTarget:
    """A Run with a session of its own."""
    read = read_run(place.run(credentials))
    vars(read.session.boto_session).update(session)
    return read


def keys(key: str = "AKIDMINE", secret: str = "a-secret", **more: Any) -> Callable[[], Any]:
    return lambda: Credentials(key, secret, **more)


def renewed() -> RefreshableCredentials:
    later = datetime.now(timezone.utc) + timedelta(hours=6)
    return RefreshableCredentials("AKIDMINE", "a-secret", "t", later, dict, "sts")


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_thousand_runs_with_the_same_keys_share_their_clients(making: Making) -> None:
    """Each with a session of its own, all at once: one making, the same three clients."""

    async def main() -> None:
        pool = ClientPool()
        runs = [target(replace(PLACE, experiment=f"e-{number}")) for number in range(1000)]
        found = await asyncio.gather(*[pool.acquire(run) for run in runs])
        assert len({id(one) for one in found}) == making.begun == 1
        assert found[0].s3.meta.endpoint_url == PLACE.s3_url
        for one in found:
            await pool.release(one)
        assert await pool.acquire(target()) is found[0], "it stays open for the next one"
        await pool.aclose()

    elsewhere(main)


OTHERS: dict[str, Callable[[], RunTarget]] = {
    "another key": lambda: target(credentials=keys("AKIDOTHER")),
    "another secret": lambda: target(credentials=keys(secret="another")),
    "a token": lambda: target(credentials=keys(token="t")),
    "found elsewhere": lambda: target(credentials=keys(method="env")),
    "keys that are renewed": lambda: target(credentials=renewed),
    "none yet": lambda: target(credentials=lambda: None),
    "another S3": lambda: target(replace(PLACE, s3_url="http://127.0.0.1:8")),
    "another SageMaker": lambda: target(replace(PLACE, sagemaker_url="http://127.0.0.1:8")),
    "another profile": lambda: target(profile_name="theirs"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_who_does_not_share(what: str) -> None:
    """Whatever makes a request leave otherwise, or in another name, makes other clients."""

    async def main() -> None:
        pool = ClientPool()
        first, other = await pool.acquire(target()), await pool.acquire(OTHERS[what]())
        assert first is not other and first.key != other.key
        assert await pool.acquire(target()) is first
        await pool.aclose()

    elsewhere(main)


def test_keys_that_are_renewed_belong_to_their_object() -> None:
    """Two Runs of one session share, also before it has found credentials; two sessions do not."""

    async def main() -> None:
        pool = ClientPool()
        credentials = renewed()
        mine = [await pool.acquire(target(credentials=lambda: credentials)) for _ in range(2)]
        other = await pool.acquire(target(credentials=renewed))
        assert mine[0] is mine[1] is not other
        unready = target(credentials=lambda: None)
        without = [await pool.acquire(replace(unready, run=name)) for name in ("a", "b")]
        assert without[0] is without[1]
        await pool.aclose()

    elsewhere(main)


def test_sessions_that_have_found_their_credentials_take_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand sessions of boto3 that begin at once: what they know need not be asked for."""
    threads: list[int] = []

    async def offload(call: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        threads.append(1)
        return call(*arguments)

    def of_boto3(key: str, *, replaced: bool = False) -> RunTarget:
        found = target()
        found.session.boto_session = session = boto3.Session(key, "a-secret", region_name="x-y-1")
        if replaced:
            session.get_credentials = keys("AKIDOTHER")
        return found

    async def main() -> None:
        pool = ClientPool()
        first = await pool.acquire(of_boto3("AKIDMINE"))
        monkeypatch.setattr(pool_module, "offload", offload)
        again = [pool.acquire(of_boto3("AKIDMINE")) for _ in range(100)]
        assert {id(one) for one in await asyncio.gather(*again)} == {id(first)}
        assert threads == []
        assert await pool.acquire(of_boto3("AKIDMINE", replaced=True)) is not first
        await pool.aclose()

    elsewhere(main)


def test_credentials_that_cannot_be_read_are_the_requests_matter() -> None:
    """A provider that raises, or knows other credentials than botocore's, holds nothing up."""

    def fail() -> Any:
        raise RuntimeError("no file")

    async def main() -> None:
        pool = ClientPool()
        for provider in (fail, lambda: SimpleNamespace(method="odd")):
            assert (await pool.acquire(target(credentials=provider))).s3 is not None
        await pool.aclose()

    elsewhere(main)


def test_reading_credentials_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that hangs holds up neither the loop nor other Runs, and is not waited for."""
    go, monkeypatched = Event(), 0.05
    monkeypatch.setattr(pool_module, "LOOK_TIMEOUT", monkeypatched)

    async def main() -> None:
        pool = ClientPool()
        hanging = asyncio.create_task(pool.acquire(target(credentials=lambda: go.wait(120))))
        await pool.acquire(target())
        assert (await hanging).s3 is not None
        go.set()
        await pool.aclose()

    elsewhere(main)


def test_a_making_that_fails_fails_who_waits_and_is_tried_anew(making: Making) -> None:
    """All who wait for the same clients get the error; the next one makes them."""
    making.error = OSError("no descriptors")

    async def main() -> None:
        pool = ClientPool()
        making.gate = asyncio.Event()
        waiting = [asyncio.create_task(pool.acquire(target())) for _ in range(3)]
        await until(lambda: [one.users for one in pool._shared.values()] == [3])
        making.gate.set()
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, TransientError) for error in errors)
        assert making.begun == 1
        making.error = PausingError("OldLibrary", "x")
        with pytest.raises(PausingError):
            await pool.acquire(target())
        making.error = None
        assert (await pool.acquire(target())).s3 is not None
        await pool.aclose()

    elsewhere(main)


def test_who_is_cancelled_leaves_the_clients_to_the_others(
    making: Making, closed: list[AwsClients]
) -> None:
    """The making goes on for those who still wait, or for the next; nobody is counted twice."""

    async def main() -> None:
        pool = ClientPool()
        making.gate = asyncio.Event()
        first, second = [asyncio.create_task(pool.acquire(target())) for _ in range(2)]
        await until(lambda: making.begun)
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        making.gate.set()
        clients = await second
        await pool.release(clients)
        for number in range(KEPT):  # all that may be kept, so that the one above is the oldest
            await pool.release(await pool.acquire(target(credentials=keys(f"AKID{number}"))))
        await until(lambda: closed)
        assert closed == [clients], "nobody is counted as using it"
        await pool.aclose()

    elsewhere(main)


def test_clients_that_nobody_waits_for_any_more_are_kept(making: Making) -> None:
    """All who wanted them are cancelled: the next one gets what was made meanwhile."""

    async def main() -> None:
        pool = ClientPool()
        making.gate = asyncio.Event()
        only = asyncio.create_task(pool.acquire(target()))
        await until(lambda: making.begun)
        only.cancel()
        await asyncio.wait({only})
        making.gate.set()
        await pool.acquire(target())
        assert making.begun == 1
        await pool.aclose()

    elsewhere(main)


def test_few_unused_ways_stay_open(closed: list[AwsClients]) -> None:
    """The one that was unused for longest is closed, never one in use."""

    async def main() -> None:
        pool = ClientPool()
        used = await pool.acquire(target())
        found = [
            await pool.acquire(target(credentials=keys(f"AKID{number}")))
            for number in range(KEPT + 2)
        ]
        for one in found:
            await pool.release(one)
        await until(lambda: len(closed) == 2)
        assert closed == found[:2]
        assert await pool.acquire(target(credentials=keys("AKID2"))) is found[2]
        assert used not in closed
        await pool.aclose()

    elsewhere(main)


def test_closing_the_pool_closes_all(making: Making, closed: list[AwsClients]) -> None:
    """Those in use, those that are unused, and those that are being made; nobody waits for ever."""

    async def main() -> None:
        pool = ClientPool()
        used, unused = await pool.acquire(target()), await pool.acquire(target(credentials=renewed))
        await pool.release(unused)
        making.gate = asyncio.Event()
        waiting = asyncio.create_task(pool.acquire(target(credentials=renewed)))
        await until(lambda: making.begun == 3)
        await pool.aclose()
        assert set(closed) == {used, unused}
        with pytest.raises(BackendError, match="closed"):
            await waiting
        with pytest.raises(BackendError, match="closed"):
            await pool.acquire(target())
        await pool.release(used)
        await pool.aclose()

    elsewhere(main)


def test_closing_waits_for_no_client_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that hangs or fails while it is closed is left."""
    monkeypatch.setattr(clients_module, "CLOSE_TIMEOUT", 0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        raise OSError("closed already")

    async def main() -> None:
        pool = ClientPool()
        for how in (hang, fail):
            clients = await pool.acquire(target(credentials=keys(secrets.token_hex(4))))
            clients._stack.push_async_callback(how)
        await pool.aclose()

    elsewhere(main)


def test_a_session_without_a_client_of_s3_is_asked_for_one_once() -> None:
    """Where the Run has made none yet, its session makes one, for all of its Runs."""
    made: list[str] = []

    class Session:
        get_credentials = staticmethod(keys())

        def client(self, service: str) -> Any:
            made.append(service)
            return SimpleNamespace(
                meta=SimpleNamespace(endpoint_url=PLACE.s3_url, region_name="us-east-1")
            )

    async def main() -> None:
        pool = ClientPool()
        run = replace(target(), s3=None)
        run.session.boto_session = Session()
        found = await asyncio.gather(*[pool.acquire(run) for _ in range(10)])
        found.append(await pool.acquire(run))
        assert made == ["s3"] and len({id(one) for one in found}) == 1
        assert await pool.acquire(target()) is found[0], "it leads to the same place"
        await pool.aclose()

    elsewhere(main)


# -- backends -------------------------------------------------------------------------------------


def backend(pool: ClientPool, place: Place = PLACE, **options: Any) -> AwsBackend:
    run = place.run()
    return AwsBackend(run, read_run(run), pool=pool, **{"bucket": None, "prefix": None, **options})


def test_a_backend_gives_its_clients_back_once(closed: list[AwsClients]) -> None:
    """Opened twice and closed twice, it counts as one user; another one is not cut off."""

    async def main() -> None:
        pool = ClientPool()
        one, other = backend(pool), backend(pool)
        await one.open()
        await one.open()
        await other.open()
        (shared,) = pool._shared.values()
        assert shared.users == 2
        await one.aclose()
        await one.aclose()
        assert shared.users == 1 and not closed
        assert one.located and not (one.record and one.record.ready)
        with pytest.raises(BackendError, match="not open"):
            await one.put("x", b"", crc32=0, media_type="text/plain")
        await other.aclose()
        await pool.aclose()
        assert len(closed) == 1

    elsewhere(main)


def test_who_goes_the_same_way() -> None:
    """Runs of one bucket and the same options; another bucket or another option is another way."""
    secret = {"SSECustomerKey": "a-customers-secret"}

    async def main() -> None:
        pool = ClientPool()
        places = [
            backend(pool),
            backend(pool, replace(PLACE, experiment="another")),
            backend(pool, bucket="other"),
            backend(pool, put_options=secret),
            backend(pool, put_options={"StorageClass": "STANDARD_IA"}),
        ]
        for one in places:
            await one.open()
        ways = [one.way for one in places]
        assert ways[0] == ways[1] and len(set(ways)) == 4
        for text in ("a-secret", "AKIDMINE", "a-customers-secret"):
            assert text not in repr(ways)
        await pool.aclose()

    elsewhere(main)


def test_equal_settings_are_equal_keys() -> None:
    """Whatever the order; and what only looks equal is not."""
    assert frozen({"a": 1, "b": {"c": [1, "x"]}}) == frozen({"b": {"c": (1, "x")}, "a": 1})
    assert len({frozen(one) for one in ({"a": 1}, {"a": True}, {"a": "1"}, {"a": None}, {})}) == 5
    odd: list[set[int]] = [set(), set()]
    assert frozen(odd[0]) == frozen(odd[0]) != frozen(odd[1])
