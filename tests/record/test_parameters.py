"""Who gets room in the Run's 300 parameters: decisions of one writer, and of several at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._common.artifact import ParameterValue, RunState
from asynctrack._record.allocation import (
    HEAD_ROOM,
    MORE,
    OWN_PARAMETERS,
    SLOTS,
    PeerParameters,
    TooLong,
)
from asynctrack._record.limits import MLFLOW
from asynctrack._record.parameters import RunParameters
from tests.property.strategies import quick

MODEL: dict[str, ParameterValue | TooLong] = {"gen_ai.operation.name": "chat", "gen_ai.model": "m"}


class Run:
    """A Run as AWS keeps it, and the user's object of it."""

    def __init__(self) -> None:
        self.parameters: dict[str, ParameterValue] = {}
        self.local: dict[str, ParameterValue] = {}

    def writer(
        self,
        manifest: str = "s3://b/m.json",
        peers: PeerParameters | None = None,
        **user: ParameterValue,
    ) -> RunParameters:
        """Return a writer that has read the Run and wants its addresses in it."""
        writer = RunParameters({} if peers is None else peers)
        writer.look(self.state())
        writer.add_group({"asynctrack.events": "s3://b/"}, address=True)
        writer.add_group({"asynctrack.manifest": manifest}, address=True)
        for name, value in user.items():
            writer.log(name, value)
        return writer

    def state(self) -> RunState:
        return RunState(dict(self.parameters), {}, frozenset(self.local))

    def update(self, writer: RunParameters, manifest: str | None = "s3://b/m.json") -> None:
        """Let a writer send what it wants, as often as it wants something."""
        for _ in range(3):
            delta = writer.plan(frozenset(self.local), manifest)
            if not delta:
                return
            writer.tell_peers(delta)
            merged = {**self.parameters, **delta.put}
            assert len(merged) <= 300, "AWS refuses that"
            self.parameters = {k: v for k, v in merged.items() if k not in delta.remove}
            writer.done(delta)
        assert not writer.plan(frozenset(self.local), manifest), "it comes to an end"

    def leave(self) -> None:
        self.parameters.update(self.local)
        assert len(self.parameters) <= 300, "the user's Run object is refused"


def fill(count: int, name: str = "u") -> dict[str, ParameterValue]:
    return {f"{name}{number}": float(number) for number in range(count)}


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.mark.parametrize("count", [0, 288, 289, 296, 297, 298, 299, 300])
def test_the_users_run_object_comes_first(run: Run, count: int) -> None:
    """What is ours is removed when the Run object needs the room; the addresses go last."""
    writer = run.writer(mine=1.0)
    writer.add_group(MODEL)
    run.update(writer)
    assert run.parameters.keys() >= {"mine", "asynctrack.manifest", *MODEL}
    run.local.update(fill(count))
    writer.look(run.state())
    run.update(writer)
    run.leave()
    assert run.parameters.items() >= run.local.items()
    free = 300 - count
    assert ("mine" in run.parameters) == (free >= HEAD_ROOM + 3)
    assert ("asynctrack.events" in run.parameters) == (free >= 1)
    assert ("asynctrack.manifest" in run.parameters) == (free >= 2)
    assert (MORE in run.parameters) == (3 <= free < HEAD_ROOM + 5)


def test_a_group_is_whole_or_absent(run: Run) -> None:
    """Where there is room for one key of two, neither is there, and the manifest says so."""
    for room in (1, 2):
        run = Run()
        run.parameters = fill(300 - HEAD_ROOM - 2 - room)
        writer = run.writer()
        writer.add_group(MODEL)
        run.update(writer)
        assert (MODEL.keys() <= run.parameters.keys()) == (room == 2)
        assert MODEL.keys().isdisjoint(run.parameters) == (room == 1)
        assert writer.left_out() == ([MODEL] if room == 1 else [])


def test_our_own_addresses_have_their_room(run: Run) -> None:
    """300 parameters of the user's leave the addresses in, and head-room."""
    writer = run.writer(**fill(300))
    run.update(writer)
    assert len(run.parameters) == 300 - HEAD_ROOM
    assert run.parameters.keys() >= {"asynctrack.events", "asynctrack.manifest", MORE}
    assert len(writer.left_out()) == 300 - (300 - HEAD_ROOM - 3)
    run.local.update(fill(HEAD_ROOM, "later"))  # after the tracker was closed
    run.leave()


def test_what_is_found_has_a_bound(run: Run) -> None:
    """Found groups take a hundred places at the most, however much room there is."""
    writer = run.writer()
    for number in range(20):
        writer.add_group({f"a{key}": float(number) for key in range(7)})
    run.update(writer)
    found = [key for key in run.parameters if key.startswith("a") and not key.startswith("as")]
    assert len(found) == OWN_PARAMETERS // 7 * 7
    assert len(writer.left_out()) == 20 - OWN_PARAMETERS // 7


def test_without_a_run_nothing_that_was_found_is_left_out() -> None:
    """A folder's manifest has what finds a name, and beside it what finds none."""
    parameters = RunParameters()
    for number in range(3 * SLOTS):
        parameters.add_group({"model": f"m{number}"})
    found = parameters.found()
    beyond = found.pop(MORE)
    assert isinstance(beyond, list)
    values = [*found.values(), *(one["model"] for one in beyond)]
    assert values == [f"m{number}" for number in range(3 * SLOTS)]
    assert len(found) == SLOTS


def test_there_is_room_again(run: Run) -> None:
    """What was left out comes back when another program has removed something."""
    run.parameters = fill(295, "theirs")
    writer = run.writer(mine=1.0)
    run.update(writer)
    assert "mine" not in run.parameters
    assert writer.left_out() == ["mine"]
    for number in range(50):
        del run.parameters[f"theirs{number}"]
    writer.look(run.state())
    run.update(writer)
    assert run.parameters["mine"] == 1.0
    assert MORE not in run.parameters
    assert writer.left_out() == []


def test_another_writers_keys_are_not_removed(run: Run) -> None:
    """A key that another has overwritten is theirs, also where room is needed."""
    writer = run.writer(shared=1.0, mine=1.0)
    run.update(writer)
    run.parameters["shared"] = 2.0
    run.local.update(fill(298))
    writer.look(run.state())
    run.update(writer)
    assert run.parameters["shared"] == 2.0
    assert "mine" not in run.parameters
    run.leave()


def test_a_shared_configuration_survives_that_one_moves(run: Run) -> None:
    """Of two writers that took the same keys at once one moves, and removes nothing of both."""
    first, second = run.writer("s3://b/1"), run.writer("s3://b/2")
    first.add_group({"name": "chat", "model": "a"})
    second.add_group({"name": "chat", "model": "b"})
    one = first.plan(frozenset(), "s3://b/1")
    run.update(second, "s3://b/2")
    run.parameters.update(one.put)
    first.done(one)
    for writer, manifest in ((first, "s3://b/1"), (second, "s3://b/2")):
        writer.look(run.state())
        run.update(writer, manifest)
    assert run.parameters.items() >= {
        "name": "chat", "model": "a", "name.2": "chat", "model.2": "b"
    }.items()  # fmt: skip
    manifests = {v for k, v in run.parameters.items() if k.startswith("asynctrack.manifest")}
    assert manifests == {"s3://b/1", "s3://b/2"}


def test_two_writers_that_leave_out(run: Run) -> None:
    """Each of two writers without room points to its own manifest."""
    run.parameters = fill(290)
    first, second = run.writer("s3://b/1", a=1.0), run.writer("s3://b/2", b=1.0)
    run.update(first, "s3://b/1")
    second.look(run.state())
    run.update(second, "s3://b/2")
    assert run.parameters[MORE] == f"s3://b/1#/parameters/{MORE}"
    assert run.parameters[f"{MORE}.2"] == f"s3://b/2#/parameters/{MORE}"


def test_one_writer_makes_room_with_what_another_left(run: Run) -> None:
    """What an earlier tracker of this process wrote gives way too, groups as a whole."""
    peers: PeerParameters = {}
    first = run.writer("s3://b/1", peers, **fill(280, "h"))
    first.add_group(MODEL)
    run.update(first, "s3://b/1")
    second = run.writer("s3://b/2", peers, mine=1.0)
    run.update(second, "s3://b/2")
    assert run.parameters.keys() >= {"h279", *MODEL, "mine", "asynctrack.manifest.2"}
    run.local.update(fill(287))
    second.look(run.state())
    run.update(second, "s3://b/2")
    run.leave()
    assert run.parameters.keys() >= run.local.keys()
    manifests = {"asynctrack.events", "asynctrack.manifest", "asynctrack.manifest.2"}
    assert run.parameters.keys() >= manifests
    assert MODEL.keys() <= run.parameters.keys() or MODEL.keys().isdisjoint(run.parameters)
    assert "mine" not in run.parameters, "who comes first is served first"


def test_a_found_key_that_the_user_takes(run: Run) -> None:
    """When the Run object gives a found key a value of its own, the group moves aside."""
    writer = run.writer()
    writer.add_group(MODEL)
    run.update(writer)
    run.local["gen_ai.model"] = "mine"
    assert writer.crowded(frozenset(run.local))
    run.update(writer)
    run.leave()
    assert run.parameters["gen_ai.model"] == "mine"
    assert run.parameters["gen_ai.model.2"] == "m"
    assert run.parameters["gen_ai.operation.name.2"] == "chat"


def test_only_what_changed_is_sent(run: Run) -> None:
    """What AWS has is not sent again, nor what another has overwritten."""
    writer = run.writer(a=1.0, b=1.0)
    writer.add_group(MODEL)
    run.update(writer)
    run.parameters["b"] = 7.0
    writer.look(run.state())
    assert not writer.plan(frozenset(), "s3://b/m.json")
    writer.log("a", 2.0)
    assert dict(writer.plan(frozenset(), "s3://b/m.json").put) == {"a": 2.0}


def test_a_configuration_that_is_there_already(run: Run) -> None:
    """One that another writer has found is neither sent nor ours to remove."""
    run.parameters = {key: str(value) for key, value in MODEL.items()}
    writer = run.writer()
    writer.add_group(MODEL)
    assert writer.plan(frozenset(), "s3://b/m.json").put.keys().isdisjoint(MODEL)
    run.update(writer)
    run.local.update(fill(297))
    writer.look(run.state())
    run.update(writer)
    assert run.parameters.keys() >= MODEL.keys()


def test_a_value_logged_while_another_is_sent(run: Run) -> None:
    """What was logged during an update is sent with the next one."""
    writer = run.writer(a=1.0)
    delta = writer.plan(frozenset(), "s3://b/m.json")
    writer.log("a", 2.0)
    writer.done(delta)
    assert writer.waiting
    assert writer.plan(frozenset(), "s3://b/m.json").put["a"] == 2.0


def test_where_no_parameter_can_change(run: Run) -> None:
    """MLflow's first value stays, whoever logged it: only another one is given up, and told."""
    writer = RunParameters({}, MLFLOW)
    run.parameters = {"theirs": "1", "same": "2"}
    writer.look(run.state())
    for name, value in {"theirs": "9", "same": "2", "mine": "3"}.items():
        writer.log(name, value)
    delta = writer.plan(frozenset(), None)
    assert (delta.put, delta.remove) == ({"same": "2", "mine": "3"}, ())
    writer.done(delta)
    assert writer.kept == {"theirs"}
    assert (writer.unwritten, writer.left_out()) == (0, [])
    assert not writer.waiting
    assert not writer.plan(frozenset(), None)


def test_what_waits_for_an_address_is_not_given_up(run: Run) -> None:
    """Where it is not known yet what a value will be in MLflow, it is neither sent nor told."""
    writer = RunParameters({}, MLFLOW)
    run.parameters = {"long": "x"}
    writer.look(run.state())
    writer.log("long", TooLong("long"))
    assert not writer.plan(frozenset(), None).put
    assert writer.kept == set()
    assert not writer.plan(frozenset(), "s3://b/m.json").put
    assert writer.kept == {"long"}


def test_what_needs_an_address_waits_for_it(run: Run) -> None:
    """Without the manifest's address the rest is sent; what points to it follows."""
    writer = RunParameters()
    writer.look(run.state())
    writer.log("short", 1.0)
    writer.log("long", TooLong("long"))
    writer.add_group({"model": "m", "prompt": TooLong("prompt")})
    run.update(writer, None)
    assert run.parameters == {"short": 1.0}
    assert writer.waiting
    run.update(writer)
    assert run.parameters["long"] == "s3://b/m.json#/parameters/long"
    assert run.parameters["model"] == "m"
    assert not writer.waiting


@quick
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["run", "first", "second", "found", "other", "send1", "send2"]),
            st.integers(0, 40),
            st.integers(1, 120),
        ),
        max_size=25,
    )
)
def test_nobody_loses_anything(steps: list[tuple[str, int, int]]) -> None:
    """Property: whatever is logged by whom, all of the user's and of others' is there in the end.

    The user's Run object and another program log up to 300 names; two writers make do with the
    rest, send when they like, and are never refused.
    """
    run = Run()
    peers: PeerParameters = {}
    writers = {"1": run.writer("s3://b/1", peers), "2": run.writer("s3://b/2", peers)}
    theirs: dict[str, ParameterValue] = {}
    for what, start, count in steps:
        names = [f"p{number}" for number in range(start, start + count)]
        if what == "run" and len(run.local.keys() | theirs.keys() | set(names)) <= 280:
            run.local.update(dict.fromkeys(names, "run"))
        elif what in ("first", "second"):
            for name in names:
                writers["1" if what == "first" else "2"].log(f"{what} {name}", 1.0)
        elif what == "found":
            writers["1"].add_group({"model": float(start), "b": 1.0, "c": float(count)})
        elif what == "other":
            mine = {f"other {name}": "other" for name in names[:5]}
            if len({*run.parameters, *run.local, *mine}) <= 300:
                run.parameters.update(mine)
                theirs.update(mine)
        elif what.startswith("send"):
            writer = writers[what[-1]]
            writer.look(run.state())
            run.update(writer, f"s3://b/{what[-1]}")
    for name, writer in writers.items():
        writer.look(run.state())
        run.update(writer, f"s3://b/{name}")
    run.leave()
    assert run.parameters.items() >= run.local.items()
    assert run.parameters.items() >= theirs.items()
