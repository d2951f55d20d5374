"""The whole tracker on a clock turned by hand, against a backend and a disk that a seed drives.

Buffer, store, worker, keeper, uploader, gate, replay and recorder are the real ones, in one thread;
threads for the disk are calls in place. The backend keeps objects in memory: it is slow, fails,
hangs, refuses (for good, too), loses answers; the disk refuses for a while; the process dies at any
await (its spool is copied as it is at that moment: what a kill leaves), and a next one takes over.
The same seed is the same history, event for event. Invariants are checked after every step:

I1 the equation adds up · I2 in the end each accepted event is stored or, refused for good, on disk,
but for what was in memory when a process died or no disk took it · I3 an object is only ever
written again with the same bytes, and no event is in two objects, but where the disk took no note
of what was halved · I4 a span's start comes before its end · I5 what has closed holds no file open.
"""

from __future__ import annotations

import asyncio
import errno
import json
import pkgutil
import random
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import anyio
import anyio.to_thread

from asynctrack._buffer.store import MemoryPiece
from asynctrack._capture.handlers import AsyncHandler
from asynctrack._delivery.delivery import Delivery
from asynctrack._delivery.parts import Part
from asynctrack._delivery.replay_plan import plan_dead_letter, plan_segment
from asynctrack._engine.engine import Engine
from asynctrack._engine.pipeline import Pipeline
from asynctrack._errors import PausingError, PermanentError, TransientError
from asynctrack._format import manifest_name
from asynctrack._options import Options
from asynctrack._spool.layout import dead_letters_in, waiting_segments, writers
from tests.support.descriptors import close_below, open_below
from tests.support.virtual import VirtualLoop, run

DISK_CALLS = (
    "asynctrack._spool.descriptor._write_at",
    "asynctrack._spool.keeper.bury",
    "asynctrack._spool.keeper.divide",
    "asynctrack._spool.segment.Segment.seal",
    "asynctrack._spool.segment.Segment.trim",
    "asynctrack._spool.segment.open_new",
    "asynctrack._spool.segment.remove_files",
    "asynctrack._spool.folder._write",
)
"""Where a disk refuses."""
MODES = ("well", "well", "shaky", "down", "denied", "hangs", "poison")
"""How the backend is, by chance; ``poison``: it refuses some objects for good."""


@dataclass
class World:
    """What outlives a process: the store, the disk, and what has happened."""

    chances: random.Random
    loop: VirtualLoop
    objects: dict[str, bytes] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    kept: set[tuple[str, int]] = field(default_factory=set)
    """Events that need not be stored: they are on disk, or the log says that they are lost."""
    largest: float = inf
    mode: str = "well"
    disk_refuses: bool = False
    requests: int = 0

    def note(self, what: str) -> None:
        self.history.append(f"{self.loop.time():.6f} {what}")

    def store(self, name: str, content: bytes) -> None:
        if not name.startswith("_manifest/"):
            before = self.objects.setdefault(name, content)
            assert before == content, f"I3: {name} was written again with other bytes"
        self.objects[name] = content
        self.note(f"stored {name} {zlib.crc32(content)}")


class SimulatedBackend:
    """A backend in memory, in whatever trouble the world is in.

    Args:
        world: What it belongs to.
        run: The Run's name.
    """

    experiment = "simulated"

    def __init__(self, world: World, run: str = "r") -> None:
        self.run = run
        self._world = world
        self.alive = True
        self._open = False

    record = None
    way = "simulated"
    located = True

    async def open(self) -> None:
        await self._request("open")
        self._open = True

    def uri(self, name: str = "") -> str:
        return f"memory:{name}"

    def destination(self) -> Mapping[str, Any]:
        return {"kind": "simulated"}

    def elsewhere(self, destination: Mapping[str, Any], experiment: str, run: str) -> Any:
        return self

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        assert zlib.crc32(content) == crc32
        of_events = not name.startswith("_manifest/")
        await self._request(
            f"put {name}",
            lambda: self._world.store(name, content),
            too_large=of_events and len(content) > self._world.largest,
            poison=of_events and self._world.mode == "poison",
        )

    async def aclose(self) -> None:
        pass

    async def _request(
        self,
        what: str,
        act: Callable[[], None] = lambda: None,
        *,
        too_large: bool = False,
        poison: bool = False,
    ) -> None:
        world = self._world
        world.requests += 1
        chances = world.chances
        await anyio.sleep(chances.expovariate(20.0))
        if world.mode == "hangs":
            try:
                with anyio.fail_after(15.0):
                    await anyio.sleep_forever()
            except TimeoutError:
                raise TransientError("Timeout", "hangs") from None
        if too_large:
            world.note(f"too large: {what}")
            raise PermanentError("EntityTooLarge", "no", answered=True)
        fails = {"well": 0.02, "shaky": 0.3, "down": 1.0, "denied": 1.0}.get(world.mode, 0.0)
        if chances.random() < fails:
            if world.mode == "denied":
                raise PausingError("AccessDenied", "no")
            if chances.random() < 0.5:
                self._act(act)  # stored, and the answer is lost
            raise TransientError("SlowDown", "no", retry_after=chances.choice((None, None, 2.0)))
        if poison and chances.random() < 0.5:
            world.note(f"poison: {what}")
            raise PermanentError("InvalidRequest", "no", answered=True)
        self._act(act)
        await anyio.sleep(chances.expovariate(50.0))

    def _act(self, act: Callable[[], None]) -> None:
        if self.alive:
            act()


@dataclass
class Life:
    """One process, from its start to its end.

    Attributes:
        pipeline: The tracker's stages.
        backend: Its end of the network.
        spool: Its disk.
        accepted: Events it accepted.
        in_memory: Of these, those that were nowhere else when it died.
        died: Whether it did.
    """

    pipeline: Pipeline
    backend: SimulatedBackend
    spool: Path
    accepted: int = 0
    in_memory: int = 0
    died: bool = False

    def check(self) -> None:
        """I1, at any moment."""
        counts = self.pipeline.buffer.counts()
        assert counts.accepted == (
            counts.delivered + counts.spooled + counts.pending + counts.dead_lettered
        ), f"I1: {counts}"
        assert min(counts.delivered, counts.spooled, counts.pending, counts.dead_lettered) >= 0
        assert counts.accepted >= self.accepted, "what was accepted is taken back"
        self.accepted = counts.accepted


class Simulation:
    """One seed.

    Args:
        seed: Of everything.
        folder: For the spools.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self._chances = random.Random(seed)
        self._folder = folder
        self.lives: list[Life] = []
        self.world: World

    def play(self) -> World:
        """Live all lives; the last one lives to its end in a world that is well.

        Raises:
            AssertionError: An invariant does not hold.
        """
        with _reproducible(self):
            run(self._play)
        self._audit()
        return self.world

    async def _play(self, loop: VirtualLoop) -> None:
        largest = self._chances.choice((inf, inf, 1_500))
        self.world = World(self._chances, loop, largest=largest)
        spool = self._folder / "0"
        for number in range(self._chances.choice((1, 1, 2, 3))):
            spool = await self._live(spool, number, last=False)
        spool = await self._live(spool, 99, last=True)
        self.world.kept |= _on_disk(spool)

    async def _live(self, spool: Path, number: int, *, last: bool) -> Path:
        """Live one life to its end; return where its spool is then."""
        spool = await self._live_to_the_end(spool, number, last=last)
        if self.lives[-1].died:
            close_below(self._folder)
        held = open_below(self._folder)
        assert not held, f"I5: {held}"
        return spool

    async def _live_to_the_end(self, spool: Path, number: int, *, last: bool) -> Path:
        chances, world = self._chances, self.world
        options = self._options(spool, last=last)
        backend = SimulatedBackend(world)
        clock = world.loop.time
        engine = Engine(monotonic=clock, uniform=chances.random)
        pipeline = Pipeline(
            backend, options, engine=engine, monotonic=clock, uniform=chances.random
        )
        # What is stored says when: by the same clock.
        events: Any = pipeline.sink.capture.events
        events._time_ns = lambda: 1_800_000_000_000_000_000 + int(world.loop.time() * 1e9)
        events._perf_ns = lambda: int(world.loop.time() * 1e9)
        life = Life(pipeline, backend, spool)
        self.lives.append(life)
        world.note(f"life {number}: {options.overflow} {options.durability}")
        worker = asyncio.ensure_future(_worker(pipeline))
        trouble = asyncio.ensure_future(self._trouble())
        try:
            await asyncio.wait_for(
                asyncio.gather(*(self._application(life) for _ in range(3))), 100_000.0
            )
            if not last and chances.random() < 0.6:
                return await self._kill(life, worker, spool)
            trouble.cancel()
            if last or chances.random() < 0.5:
                self._heal()
            if last:
                await self._replayed(pipeline, spool)
            pipeline.driver.close(3_600.0 if last else options.close_timeout)
            await asyncio.wait_for(asyncio.shield(worker), 100_000.0)
            life.check()
            counts = pipeline.buffer.counts()
            life.in_memory += counts.pending
            if last:
                assert counts.delivered + counts.dead_lettered == counts.accepted, counts
            return spool
        finally:
            trouble.cancel()
            worker.cancel()
            await asyncio.gather(worker, trouble, return_exceptions=True)

    async def _replayed(self, pipeline: Pipeline, spool: Path) -> None:
        """Wait until nothing of those before is left; what failed is tried again minutes later."""
        for _ in range(2_000):
            others = [path for path in writers(spool) if path.name != pipeline.writer_id]
            if not any(map(waiting_segments, others)):
                return
            await anyio.sleep(1.0)
        raise AssertionError(f"I2: never replayed: {writers(spool)}")

    async def _kill(self, life: Life, worker: asyncio.Future[None], spool: Path) -> Path:
        """SIGKILL: nothing of it goes on, and the disk is as it is."""
        await anyio.sleep(self._chances.random() * self._chances.choice((0.001, 0.1, 3.0)))
        life.check()
        counts = life.pipeline.buffer.counts()
        life.in_memory, life.died = counts.pending, True
        life.backend.alive = False
        self.world.note(f"killed, {counts}")
        after = spool.with_name(f"{spool.name}+")
        if spool.exists():
            shutil.copytree(spool, after)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        return after

    async def _application(self, life: Life) -> None:
        chances = self._chances
        handler = AsyncHandler(life.pipeline.sink)
        open_spans: list[UUID] = []
        for _ in range(chances.choice((0, 3, 10, 30))):
            await anyio.sleep(chances.choice((0.0, 0.0, 0.01, 0.3, 8.0)) * chances.random())
            text = "x" * int(min(chances.paretovariate(0.7) * 10, 3_000))
            if open_spans and chances.random() < 0.45:
                span = open_spans.pop(chances.randrange(len(open_spans)))
                ended: Any = handler.on_chain_end(text, run_id=span)
                await ended
            else:
                span = UUID(int=chances.getrandbits(128))
                await handler.on_chain_start(None, text, run_id=span)
                open_spans.append(span)
            life.check()
            if chances.random() < 0.02:
                life.pipeline.driver.request_flush()

    async def _trouble(self) -> None:
        chances, world = self._chances, self.world
        while True:
            world.mode = chances.choice(MODES)
            world.disk_refuses = chances.random() < 0.15
            world.note(f"{world.mode}, disk {'refuses' if world.disk_refuses else 'well'}")
            await anyio.sleep(chances.expovariate(1 / chances.choice((0.2, 3.0, 30.0))))

    def _heal(self) -> None:
        self.world.mode, self.world.disk_refuses = "well", False

    def _options(self, spool: Path, *, last: bool) -> Options:
        chances = self._chances
        durability = chances.choice(("process", "process", "process", "memory"))
        if last:
            durability = "process"  # one without a spool replays nobody's
        overflow = chances.choice(
            ("block", "drop_newest") if durability == "memory" else ("spool", "spool", "block")
        )
        return Options(
            durability=durability,
            overflow=overflow,
            spool_dir=str(spool),
            max_buffer_bytes=65_536,
            max_buffer_events=chances.choice((10, 40, 1_000)),
            max_batch_events=chances.choice((1, 3, 10)),
            max_batch_bytes=chances.choice((2_048, 16_384)),
            max_delay=chances.choice((0.05, 1.0, 5.0)),
            upload_concurrency=chances.choice((1, 2, 4)),
            close_timeout=chances.choice((0.0, 1.0, 30.0)),
            close_patience=86_400.0 if last else chances.choice((0.5, 5.0, 60.0)),
            compression="none",
        )

    def _audit(self) -> None:
        seen: Counter[tuple[str, int]] = Counter()
        starts: dict[tuple[str, str], int] = {}
        for name, content in sorted(self.world.objects.items()):
            if name.startswith("_manifest/"):
                continue
            for line in content.splitlines():
                event = json.loads(line)
                if event["event"] == "value":
                    continue
                key = (event["writer_id"], event["seq"])
                seen[key] += 1
                span = (event["writer_id"], event["span_id"])
                if event["event"] == "chain_start":
                    starts[span] = event["seq"]
                elif event["event"] == "chain_end" and span in starts:
                    assert starts[span] < event["seq"], f"I4: {span}"
        doubled = [key for key, count in seen.items() if count > 1]
        # Where the disk takes no note of what was halved, a replay uploads the whole.
        noted = not any(entry.endswith("_keeper.divide") for entry in self.world.history)
        assert not (doubled and noted), f"I3: more than once: {doubled[:5]}"
        for life in self.lives:
            writer_id = life.pipeline.writer_id
            missing = [
                seq
                for seq in range(1, life.accepted + 1)
                if not seen[writer_id, seq] and (writer_id, seq) not in self.world.kept
            ]
            lost = len(missing) - life.in_memory
            assert lost <= 0, f"I2: {writer_id} lost {lost}: {missing[:20]}"
            if not life.died and not life.in_memory and life.accepted:
                manifest = manifest_name(writer_id)
                assert manifest in self.world.objects or missing or life is not self.lives[-1]


def _on_disk(spool: Path) -> set[tuple[str, int]]:
    """Return the events that are there: dead letters, and those that could not be set aside."""
    plans = [plan_dead_letter(file) for path in writers(spool) for file in dead_letters_in(path)]
    plans += [plan_segment(file) for path in writers(spool) for file in waiting_segments(path)]
    assert not any(plan.problem for plan in plans), plans
    return {
        (batch.writer_id, seq)
        for plan in plans
        for batch in plan.batches
        for seq in range(batch.first_seq, batch.last_seq + 1)
    }


async def _worker(pipeline: Pipeline) -> None:
    await pipeline.driver.run()


@contextmanager
def _reproducible(simulation: Simulation) -> Iterator[None]:
    """Take out what is not the seed's: threads, the clock on the wall, names by chance."""
    count = iter(range(1, 10**9))

    async def in_place(
        function: Callable[..., Any], abandon: bool, at_once: bool, lane: Any
    ) -> Any:
        world = simulation.world
        await anyio.sleep(world.chances.expovariate(2_000.0))
        return function()

    def tell_refused(
        self: Delivery, part: Part, error: PermanentError, piece: Any, *, kept: bool
    ) -> None:
        if not kept and isinstance(piece, MemoryPiece):
            seqs = range(part.first_seq, part.last_seq + 1)
            simulation.world.kept |= {(self._writer_id, seq) for seq in seqs}
        told(self, part, error, piece, kept=kept)

    told = Delivery._tell_refused

    def refusing(name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = pkgutil.resolve_name(name)

        def call(*arguments: Any, **options: Any) -> Any:
            world = simulation.world
            if world.disk_refuses and world.chances.random() < 0.7:
                world.note(f"refused {name}")
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(*arguments, **options)

        return call

    with ExitStack() as stack:
        for target, new in (
            *((name, refusing(name)) for name in DISK_CALLS),
            ("asynctrack._delivery.delivery.Delivery._tell_refused", tell_refused),
            ("asynctrack._common.offload._in_thread", in_place),
            (
                "asynctrack._engine.pipeline.secrets.token_hex",
                lambda size: f"{next(count):0{2 * size}x}",
            ),
            ("asynctrack._engine.pipeline.time.time_ns", lambda: 1_800_000_000_000_000_000),
            ("asynctrack._spool.homes.KEEP_FREE", 0),
        ):
            stack.enter_context(mock.patch(target, new))
        yield


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for spools; in memory where there is one: it is the decisions that are tested."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="asynctrack-faults-", dir=shm if shm.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def play(seed: int, folder: Path) -> World:
    """Play one seed.

    Raises:
        AssertionError: An invariant does not hold; the history is in its notes.
    """
    simulation = Simulation(seed, folder)
    try:
        return simulation.play()
    except BaseException as error:
        history = getattr(getattr(simulation, "world", None), "history", [])
        raise AssertionError(
            f"seed {seed}: {type(error).__name__}: {error}\n" + "\n".join(history[-40:])
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
