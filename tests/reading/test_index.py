"""The index: its tables are what ``open_run`` reads, whenever they were brought up to date."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynctrack import open_run
from asynctrack._errors import ChecksumError, ReadError
from asynctrack._reading.conversations import sessions
from asynctrack._reading.decoding.events import Event
from asynctrack._reading.index import filler, pieces
from asynctrack._reading.index.catalog import Catalog, RunFolder
from asynctrack._reading.index.place import place_of
from asynctrack._reading.index.tables import open_tables, shown_columns
from asynctrack._reading.run import RecordedRun
from asynctrack._reading.tables import span_table
from asynctrack._reading.trees.build import TraceBuilder
from asynctrack._reading.trees.prices import cost_of, read_prices
from asynctrack._reading.trees.trace import Trace
from tests.cli.runs import chain, make_run, trace_id
from tests.reading.indexing import ask
from tests.reading.making import OTHER, WRITER, event
from tests.reading.making import RunFolder as Made
from tests.reading.spooling import SpoolFolder, folder_of

pytestmark = pytest.mark.usefixtures("place")


def told(run: RecordedRun) -> list[tuple[Any, ...]]:
    """What the tables tell of each span, by trace and span."""
    return ask(
        run,
        "SELECT s.trace_id, s.span_id, s.parent_span_id, s.outcome, s.cause, s.duration, s.inputs,"
        " s.outputs, s.session_id, s.user_id, s.spooled, t.resumes, t.spans, t.complete"
        " FROM inside.spans s JOIN inside.traces t ON t._no = s._no ORDER BY ALL",
    )


def known(run: RecordedRun) -> list[tuple[Any, ...]]:
    """The same, by ``open_run`` alone."""
    rows = []
    for trace in run.traces():
        spans = list(trace.walk())
        for span in spans:
            texts = (json.dumps(one, separators=(",", ":")) if one is not None else None
                     for one in (span.inputs, span.outputs))  # fmt: skip
            rows.append(
                (
                    *(span.trace_id, span.span_id, span.parent_span_id, span.outcome, span.cause),
                    *(span.duration, *texts, trace.session_id, trace.user_id, span.spooled),
                    *(trace.resumes, len(spans), trace.complete),
                )
            )
    return sorted(rows, key=lambda row: [(one is not None, one) for one in row])


def sorted_rows(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows in the order of ``known``."""
    return sorted(rows, key=lambda row: [(one is not None, one) for one in row])


@st.composite
def histories(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Events of a writer whose chains overlap, in artifacts: some end late or never, some pause."""
    count = draw(st.integers(1, 7))
    todo: list[list[dict[str, Any]]] = []
    for number in range(count):
        ids = {"trace_id": f"t{number}", "span_id": f"t{number}"}
        thread = draw(st.sampled_from([None, "a", "b"]))
        metadata = {} if thread is None else {"thread_id": thread, "user_id": f"of {thread}"}
        inputs = draw(st.sampled_from([{"q": number}, None]))
        child = {"trace_id": f"t{number}", "span_id": f"c{number}", "parent_span_id": f"t{number}"}
        steps: list[dict[str, Any]] = [
            {"kind": "chain_start", "inputs": inputs, "metadata": metadata, **ids},
            {"kind": "chat_model_start", "inputs": {"x": 1}, **child},
            {"kind": "llm_end", "outputs": {"y": number}, "duration": 0.5, **child},
        ]
        pause = {"type": "langgraph.errors.GraphInterrupt", "message": "ask", "value": []}
        steps += draw(
            st.sampled_from(
                [
                    [{"kind": "chain_end", "outputs": number, "duration": 1.5, **ids}],
                    [{"kind": "chain_error", "error": {"type": "E", "message": "m"}, **ids}],
                    [{"kind": "chain_error", "error": pause, **ids}],
                    [],
                ]
            )
        )
        todo.append(steps)
    events = []
    while any(todo):
        steps = draw(st.sampled_from([one for one in todo if one]))
        events.append(event(len(events) + 1, **steps.pop(0)))
    artifacts = []
    while events:
        size = draw(st.integers(1, len(events)))
        artifacts.append(events[:size])
        events = events[size:]
    return artifacts


@settings(max_examples=60)
@given(histories(), st.data())
def test_tables_are_what_open_run_reads(
    tmp_path_factory: pytest.TempPathFactory, artifacts: list[list[dict[str, Any]]], data: Any
) -> None:
    """However often the index was brought up to date meanwhile, its tables hold the same."""
    root = tmp_path_factory.mktemp("law")
    os.environ["ASYNCTRACK_INDEX_DIR"] = str(root / "index")
    folder = Made(root)
    spool = SpoolFolder(root / "spool", folder_of(folder.path))
    waiting: list[dict[str, Any]] = []
    for number, artifact in enumerate(artifacts):
        last = number == len(artifacts) - 1
        if data.draw(st.integers(0, 3)) == 0 and not waiting and last:
            waiting = artifact
            spool.segment(artifact)
        else:
            folder.artifact(artifact)
        folder.manifest(state="closed" if last and not waiting else "open")
        run = open_run(folder.path, spool_dir=root / "spool")
        if last or data.draw(st.booleans()):
            assert sorted_rows(told(run)) == known(run)
    spool.die()


@settings(max_examples=60)
@given(histories(), st.data())
def test_a_builder_goes_on_from_a_snapshot(
    artifacts: list[list[dict[str, Any]]], data: Any
) -> None:
    """A builder that takes over at any event gives the traces that one alone would."""
    events = [Event(one) for artifact in artifacts for one in artifact]
    linger = data.draw(st.integers(0, 6))
    at = data.draw(st.integers(0, len(events)))

    def taken(*parts: list[Event]) -> list[Trace]:
        found: list[Trace] = []
        builder = TraceBuilder(linger)
        for number, part in enumerate(parts):
            if number:
                builder = TraceBuilder(linger, builder.snapshot())
            for one in part:
                found += builder.add(one)
        found += builder.rest()
        return sorted(found, key=lambda trace: trace.trace_id)

    def shape(traces: list[Trace]) -> list[Any]:
        return [
            (one.trace_id, one.resumes, [(s.span_id, s.outcome, s.outputs) for s in one.walk()])
            for one in traces
        ]

    alone, handed_over = taken(events), taken(events[:at], events[at:])
    # A trace may wait longer for late events after it was handed over, never shorter.
    assert shape(handed_over) == shape(alone) or len(handed_over) < len(alone)


def test_artifacts_are_read_once(tmp_path: Path) -> None:
    """What is in the index is not read again: new artifacts are all that a question adds."""
    folder = Made(tmp_path)
    first = folder.artifact(chain(1, 1))
    folder.manifest(state="open")
    run = open_run(folder.path)
    assert ask(run, "SELECT count(*) FROM spans", tables=("spans",)) == [(2,)]
    first.write_bytes(b"x" * first.stat().st_size)  # nobody looks at it any more
    folder.artifact(chain(2, 5))
    folder.manifest()
    counted: list[int] = []
    question = "SELECT count(*) FROM spans"
    assert ask(run, question, tables=("spans",), progress=counted.append) == [(4,)]
    assert sum(counted) == 4


def test_a_run_that_was_made_anew(tmp_path: Path) -> None:
    """Where a Run was deleted and tracked again, nothing of the first one is left."""
    folder = make_run(tmp_path)
    assert ask(open_run(folder.path), "SELECT count(*) FROM traces") == [(6,)]
    for path in folder.path.rglob("*.*"):
        path.unlink()
    again = Made(tmp_path)
    again.artifact(chain(9, 1, writer=OTHER), writer=OTHER)
    again.manifest(OTHER)
    assert ask(open_run(folder.path), "SELECT trace_id FROM traces") == [(trace_id(9),)]


def test_bytes_that_changed_are_read_again(tmp_path: Path) -> None:
    """An artifact that its manifest lists with another checksum is not what is in the index."""
    make_run(tmp_path, chains=[{"answer": "one"}])
    run = open_run(make_run(tmp_path, chains=[{"answer": "one"}]).path)
    assert ask(run, "SELECT output FROM traces") == [("one",)]
    make_run(tmp_path, chains=[{"answer": "two"}])
    assert ask(run, "SELECT output FROM traces") == [("two",)]


@pytest.mark.parametrize("what", ["state.json", "*.parquet", "*"])
def test_it_is_safe_to_delete(tmp_path: Path, place: Path, what: str) -> None:
    """Whatever is removed of the index, or spoiled, the next question makes it again."""
    run = open_run(make_run(tmp_path).path)
    assert ask(run, "SELECT count(*) FROM spans") == [(12,)]
    for path in place.glob(f"*/*/{what}"):
        path.unlink()
    assert ask(run, "SELECT count(*) FROM spans") == [(12,)]
    for path in place.glob(f"*/*/{what}"):
        path.write_bytes(b"spoiled")
    assert ask(run, "SELECT count(*) FROM spans") == [(12,)]


def test_damage_is_told_each_time(tmp_path: Path) -> None:
    """A line that cannot be read is a problem of the first question and of the next ones."""
    folder = Made(tmp_path)
    folder.artifact([event(1), {**event(2), "event": 7}, event(3)])
    folder.manifest()
    for _ in range(2):
        run = open_run(folder.path)
        assert ask(run, "SELECT seq FROM events ORDER BY seq") == [(1,), (3,)]
        (problem,) = run.problems
        assert problem.line == 2


def test_an_artifact_that_is_not_what_is_listed(tmp_path: Path) -> None:
    """It raises, or is set aside, each time; and is read once it is there again."""
    folder = Made(tmp_path)
    folder.artifact(chain(1, 1))
    second = folder.artifact(chain(2, 5))
    folder.manifest()
    sound = second.read_bytes()
    second.write_bytes(b"spoiled")
    for _ in range(2):
        with pytest.raises(ChecksumError):
            ask(open_run(folder.path), "SELECT 1")
        aside = open_run(folder.path, damaged="set_aside")
        assert ask(aside, "SELECT count(*) FROM traces") == [(1,)]
        assert [Path(one.object).name for one in aside.problems] == [second.name]
    second.write_bytes(sound)
    assert ask(open_run(folder.path), "SELECT count(*) FROM traces") == [(2,)]


def test_what_goes_on_is_read_each_time(tmp_path: Path) -> None:
    """An open trace is shown as it is now, and becomes one that has ended, not a second one."""
    folder = Made(tmp_path)
    events = chain(1, 1)
    folder.artifact(events[:2])
    folder.manifest(state="open")
    question = "SELECT outcome, spans FROM traces"
    assert ask(open_run(folder.path), question) == [("unfinished", 2)]
    folder.artifact(events[2:])
    folder.manifest()
    assert ask(open_run(folder.path), question) == [("ok", 2)]


def test_what_waits_in_the_spool_is_read_each_time(tmp_path: Path) -> None:
    """Events of the spool are rows, marked as such; delivered they are the same rows unmarked."""
    folder = Made(tmp_path)
    folder.artifact(chain(1, 1))
    folder.manifest(state="open")
    spool = SpoolFolder(tmp_path / "spool", folder_of(folder.path))
    spool.segment(chain(2, 5))
    run = open_run(folder.path, spool_dir=tmp_path / "spool")
    question = "SELECT trace_id, spooled FROM traces ORDER BY ALL"
    assert ask(run, question) == [(trace_id(1), False), (trace_id(2), True)]
    folder.artifact(chain(2, 5))
    folder.manifest(state="open")
    assert ask(run, question) == [(trace_id(1), False), (trace_id(2), False)]
    spool.die()


def test_what_follows_a_gap_is_not_kept(tmp_path: Path) -> None:
    """Events whose writer may still deliver those before them are read, and read again."""
    folder = Made(tmp_path)
    events = chain(1, 1)
    folder.artifact(events[2:])
    folder.manifest(state="open")
    run = open_run(folder.path)
    assert len(told(run)) == 2
    folder.artifact(events[:2])
    folder.manifest()
    assert sorted_rows(told(run)) == known(run)
    assert {row[3] for row in told(run)} == {"ok"}


def test_others_cannot_read_it(tmp_path: Path, place: Path) -> None:
    """Only its owner may read the index, whatever the umask says; a folder of all is not used."""
    run = open_run(make_run(tmp_path).path)
    before = os.umask(0)
    try:
        ask(run, "SELECT 1")
    finally:
        os.umask(before)
    for path in (*place.glob("*"), *place.rglob("*/*")):
        assert path.stat().st_mode & 0o077 == 0, path
    (own,) = place.iterdir()
    own.chmod(0o755)
    with Catalog() as catalog:
        assert not catalog.path.is_relative_to(place) and catalog.path.is_dir()
    assert not catalog.path.exists()


def test_where_the_index_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cache a temporary one answers, and is removed."""
    monkeypatch.setenv("ASYNCTRACK_INDEX_DIR", "/dev/null/nowhere")
    run = open_run(make_run(tmp_path).path)
    assert ask(run, "SELECT count(*) FROM spans") == [(12,)]


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room, the error names the folder and the variable that names another."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pieces.Piece, "_write_table", full)
    with pytest.raises(ReadError, match=r"No space left on device.*ASYNCTRACK_INDEX_DIR"):
        ask(open_run(make_run(tmp_path).path), "SELECT 1")


def test_the_places_of_the_index() -> None:
    """The user's word comes first, then the cache that XDG names, then the one at home."""
    assert place_of({"ASYNCTRACK_INDEX_DIR": "/a", "HOME": "/h"}) == Path("/a/index")
    xdg = {"XDG_CACHE_HOME": "/c", "HOME": "/h"}
    assert place_of(xdg) == Path("/c/asynctrack/index")
    relative = {"XDG_CACHE_HOME": "c", "HOME": "/h"}
    assert place_of(relative) == Path("/h/.cache/asynctrack/index")
    assert place_of({}) is None


def test_what_nobody_asks_for_is_removed(tmp_path: Path, place: Path) -> None:
    """The index stays small: what was not asked for the longest goes, unless it is in use."""
    runs = [open_run(make_run(tmp_path / name, chains=[{}]).path) for name in "abc"]
    folders = []
    for run in runs:
        with Catalog() as catalog:
            folders.append(catalog.folder(run.found))
        ask(run, "SELECT 1")
    size = folders[2].size()
    with Catalog() as user, Catalog() as catalog:
        user.folder(runs[0].found)
        for number, folder in enumerate(folders):
            os.utime(folder.path, (number, number))
        catalog.trim(2 * size + size // 2)
        assert [folder.path.exists() for folder in folders] == [True, False, True]
        catalog.trim(0)
    assert [folder.path.exists() for folder in folders] == [True, False, True], "the latest stays"
    with Catalog() as catalog:
        catalog.trim(0)
    assert [folder.path.exists() for folder in folders] == [False, False, True]


def test_who_was_killed_reads_no_more(tmp_path: Path, place: Path) -> None:
    """What a dead process was reading is removed like everything else."""
    runs = [open_run(make_run(tmp_path / name, chains=[{}]).path) for name in "ab"]
    for run in runs:
        ask(run, "SELECT 1")
    program = (
        "import os, sys; from asynctrack import open_run;"
        "from asynctrack._reading.index.catalog import Catalog;"
        "Catalog().folder(open_run(sys.argv[1]).found); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, runs[0].uris[0]], check=False)
    (left,) = place.glob("*/reader-*")
    with Catalog() as catalog:
        first, second = (catalog.path / one for one in sorted(
            (path.name for path in catalog.path.iterdir() if path.is_dir()),
            key=lambda name: left.read_text().strip() != name,
        ))  # fmt: skip
        os.utime(first, (0, 0))
        catalog.trim(0)
    assert (first.exists(), second.exists(), left.exists()) == (False, True, False)


def test_many_runs_take_one_file(tmp_path: Path) -> None:
    """However many Runs are read at once, no more files are open than for one."""
    runs = [open_run(make_run(tmp_path / str(n), chains=[{}]).path) for n in range(20)]
    with open_tables(runs[:1]):
        few = len(os.listdir("/proc/self/fd"))
    with open_tables(runs):
        assert len(os.listdir("/proc/self/fd")) <= few


def test_two_processes_at_once(tmp_path: Path, place: Path) -> None:
    """Whoever comes second waits, and reads nothing twice."""
    folder = make_run(tmp_path, chains=[{}] * 60)
    command = [sys.executable, "-m", "asynctrack.cli", "query", str(folder.path)]

    def count(_: int) -> str:
        sql = "SELECT count(*) AS n FROM spans"
        done = subprocess.run([*command, sql, "--json"], capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)["rows"])

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(count, range(3))) == {"[{'n': 120}]"}
    (own,) = place.glob("*/*")
    assert len(list(own.glob("*-spans.parquet"))) == 1


def test_what_an_interrupted_build_left_is_removed(tmp_path: Path, place: Path) -> None:
    """Files that no state names are gone after the next question."""
    run = open_run(make_run(tmp_path).path)
    ask(run, "SELECT 1")
    (own,) = place.glob("*/*")
    (own / "7-spans.parquet").write_bytes(b"half")
    ask(run, "SELECT 1")
    assert not (own / "7-spans.parquet").exists()


def test_long_builds_are_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that is interrupted goes on from where it was saved."""
    monkeypatch.setattr(filler, "SAVED", 8)
    monkeypatch.setattr(filler, "TOLD", 4)
    run = open_run(make_run(tmp_path, chains=[{}] * 10).path)
    with Catalog() as catalog:
        one = filler.Filler(catalog.folder(run.found), run.found, filler.TRACES, (), run.report)
        steps = one.fill()
        read = 0
        while read < 20:
            read += next(steps)
        steps.close()
    counted: list[int] = []
    question = "SELECT count(*) FROM traces"
    assert ask(run, question, tables=("traces",), progress=counted.append) == [(10,)]
    assert sum(counted) == 40 - 16
    assert sorted_rows(told(run)) == known(run)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["chat_model", "llm", "chain"]),
            st.sampled_from([None, "a", "b", "c"]),
            st.sampled_from([None, "a", "b", "c"]),
            *[st.sampled_from([None, 0, 5, 1_000])] * 7,
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_cost_is_that_of_the_library(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[Any, ...]], live: bool
) -> None:
    """SQL and ``cost_of`` agree on every span, also of what is in no piece."""
    root = tmp_path_factory.mktemp("cost")
    os.environ["ASYNCTRACK_INDEX_DIR"] = str(root / "index")
    names = ("input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens",
             "reasoning.output_tokens", "audio.input_tokens", "audio.output_tokens")  # fmt: skip
    events: list[dict[str, Any]] = []
    for number, (kind, asked, answered, *tokens) in enumerate(calls):
        ids = {"span_id": f"s{number}", "trace_id": f"s{number}"}
        attributes = {"gen_ai.request.model": asked, "gen_ai.response.model": answered}
        attributes |= {f"gen_ai.usage.{n}": v for n, v in zip(names, tokens, strict=True)}
        attributes = {name: value for name, value in attributes.items() if value is not None}
        end = "llm_end" if kind != "chain" else "chain_end"
        events += [
            event(2 * number + 1, kind=f"{kind}_start", **ids),
            event(2 * number + 2, kind=end, attributes=attributes, **ids),
        ]
    folder = Made(root)
    folder.artifact(events)
    folder.manifest(state="open" if live else "closed")
    prices = {
        "a": (1, 2),
        "b": {"in": 3, "out": 4, "cache_read": 0.1, "audio_in": 9, "audio_out": 8},
    }
    run = open_run(folder.path, prices=prices)
    rates = read_prices(prices)
    assert rates is not None
    expected = {span.span_id: cost_of(span, rates) for t in run.traces() for span in t.walk()}
    found = dict(ask(run, "SELECT span_id, cost FROM spans"))
    assert found == {name: pytest.approx(cost) for name, cost in expected.items()}
    models = {s.span_id for t in run.traces() for s in t.walk() if s.kind in ("llm", "chat_model")}
    total = dict(ask(run, "SELECT trace_id, cost FROM traces"))
    assert total == {
        name: pytest.approx(cost) if name in models and cost is not None else None
        for name, cost in expected.items()
    }


def test_events_have_the_session_of_their_trace(tmp_path: Path) -> None:
    """Every event of a conversation can be asked for by its user, also those that name nobody."""
    folder = Made(tmp_path)
    ids = {"trace_id": "a", "span_id": "a"}
    metadata = {"session_id": "s1", "user_id": 7}
    folder.artifact(
        [
            event(1, kind="chain_start", metadata=metadata, **ids),
            event(2, kind="chain_end", **ids),
            event(3, kind="metric", name="x"),
        ]
    )
    folder.manifest()
    run = open_run(folder.path)
    question = "SELECT seq, session_id, user_id, thread_id FROM events ORDER BY seq"
    assert ask(run, question) == [(1, "s1", "7", None), (2, "s1", "7", None), (3, None, None, None)]


def test_two_runs_are_told_apart(tmp_path: Path) -> None:
    """Every table has each Run's names, and each Run's rows once."""
    made = [
        make_run(tmp_path, name, [{}] * count, t=count) for name, count in (("one", 2), ("two", 3))
    ]
    with open_tables([open_run(one.path) for one in made]) as tables:
        for table, rows in (("spans", 2), ("traces", 1), ("events", 4)):
            sql = f"SELECT run, count(*) FROM {table} GROUP BY ALL ORDER BY ALL"
            found = tables.connection.execute(sql).fetchall()
            assert found == [("one", 2 * rows), ("two", 3 * rows)], table
        sql = "SELECT run, value FROM parameters WHERE name = 't' ORDER BY run"
        assert tables.connection.execute(sql).fetchall() == [("one", "2"), ("two", "3")]


def test_rows_hold_what_was_written(tmp_path: Path) -> None:
    """Columns have their types, nanoseconds are kept whole, payloads are JSON text."""
    name = "x'); DROP TABLE events; --"
    folder = Made(tmp_path / "it's")
    ids = {"span_id": "a", "trace_id": "a"}
    folder.artifact(
        [
            event(1, kind="chain_start", name=name, tags=["p", "q"], inputs=[1], **ids),
            event(2, kind="chain_end", outputs={"x": 1}, **ids),
        ]
    )
    folder.manifest()
    run = open_run(folder.path)
    question = (
        "SELECT time_unix_nano, name, tags, inputs, typeof(time) FROM events ORDER BY seq LIMIT 1"
    )
    assert ask(run, question) == [
        (1_767_225_600_000_001_000, name, ["p", "q"], "[1]", "TIMESTAMP WITH TIME ZONE")
    ]
    assert ask(run, "SELECT outputs->>'x' FROM spans") == [("1",)]


def test_feedback_is_a_table(tmp_path: Path) -> None:
    """A feedback is a row by itself and changes no trace; what is odd about it is left empty."""
    folder = make_run(tmp_path, chains=[{}])
    data = {"score": 1, "comment": "good", "trace_id": trace_id(1), "span_id": None}
    folder.artifact(
        [
            event(1, writer=OTHER, kind="feedback", name="thumbs", data=data),
            event(2, writer=OTHER, kind="feedback", name="odd", data={"score": "x", "comment": 5}),
        ],
        writer=OTHER,
    )
    folder.manifest(OTHER)
    run = open_run(folder.path)
    question = "SELECT name, trace_id, score, comment FROM feedback ORDER BY seq"
    assert ask(run, question) == [("thumbs", trace_id(1), 1.0, "good"), ("odd", None, None, None)]
    assert ask(run, "SELECT count(*) FROM traces") == [(1,)]


def test_a_statement_reads_nothing_else(tmp_path: Path) -> None:
    """Locked tables answer, and let nobody at other files, the network, or other Runs' pieces."""
    runs = [open_run(make_run(tmp_path, name).path) for name in ("one", "two")]
    with open_tables(runs[1:]), open_tables(runs[:1]) as tables, Catalog() as catalog:
        tables.lock()
        assert tables.rows("SELECT count(*) AS n FROM spans") == [{"n": 12}]
        (piece,) = catalog.folder(runs[1].found).path.glob("*-spans.parquet")
        for other in (str(piece), "/etc/passwd", "https://127.0.0.1:1/x.parquet"):
            with pytest.raises(duckdb.Error):
                tables.rows(f"SELECT * FROM read_parquet('{other}')")
        with pytest.raises(duckdb.Error):
            tables.rows("SET enable_external_access = true")


def test_columns_are_described_as_they_are(tmp_path: Path) -> None:
    """What is said of the columns before anything is read is what the tables have."""
    with open_tables([open_run(make_run(tmp_path).path)]) as tables:
        for table in ("spans", "traces", "events", "feedback", "parameters"):
            columns = [row["column_name"] for row in tables.rows(f"DESCRIBE {table}")]
            assert columns == [name for name, _ in shown_columns(table)]


def test_columns_are_those_of_the_data_frame() -> None:
    """What SQL, data frames and exports call a column is the same, and in the same order."""
    names = [name for name, _ in shown_columns("spans")]
    assert names == ["experiment", "run", *(name for name, _, _ in span_table.COLUMNS)]
    assert [name for name, _ in shown_columns("events")][-3:] == [
        "session_id",
        "user_id",
        "thread_id",
    ]


def test_row_groups_end_by_their_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory is bounded by characters as well as by rows."""
    from pyarrow import parquet

    monkeypatch.setattr(pieces, "CHARACTERS", 1_000)
    folder = Made(tmp_path)
    folder.artifact([event(n, data="x" * 600) for n in range(1, 8)])
    folder.manifest()
    run = open_run(folder.path)
    ask(run, "SELECT 1")
    with Catalog() as catalog:
        (piece,) = catalog.folder(run.found).path.glob("*-events.parquet")
    assert parquet.ParquetFile(piece).num_row_groups == 4


@pytest.mark.parametrize("first", ["begin", "end"])
def test_what_a_closed_writer_left_behind(tmp_path: Path, first: str) -> None:
    """A replay after the writer's end completes the traces that were read half, and adds none."""
    folder = Made(tmp_path)
    events = chain(1, 1)
    parts = [events[:2], events[2:]]
    for part in parts if first == "begin" else parts[::-1]:
        folder.artifact(part)
        folder.manifest(accepted=4)
        assert sorted_rows(told(open_run(folder.path))) == known(open_run(folder.path))
    assert {row[3] for row in told(open_run(folder.path))} == {"ok"}


def test_what_was_refused_is_no_gap(tmp_path: Path) -> None:
    """What follows events that the backend refused for good is indexed, and not read each time."""
    folder = Made(tmp_path)
    folder.artifact(chain(1, 1))
    after = folder.artifact(chain(3, 9))
    folder.manifest(state="open", refused_ranges=[[5, 8]], dead_lettered=4)
    run = open_run(folder.path)
    assert ask(run, "SELECT count(*) FROM traces", tables=("traces",)) == [(2,)]
    after.write_bytes(b"x" * after.stat().st_size)  # nobody looks at it any more
    assert ask(run, "SELECT count(*) FROM traces", tables=("traces",)) == [(2,)]


@pytest.mark.parametrize("how", ["cut off", "spoiled"])
def test_open_traces_that_are_not_whole(tmp_path: Path, place: Path, how: str) -> None:
    """Where the file with the open traces is damaged, they are read again from what is stored."""
    folder = Made(tmp_path)
    ids = [os.urandom(900).hex() for _ in range(200)]
    folder.artifact(
        [event(n, kind="chain_start", trace_id=one, span_id=one) for n, one in enumerate(ids, 1)]
    )
    folder.manifest(state="open")
    run = open_run(folder.path)
    question = "SELECT count(*) FROM traces"
    assert ask(run, question) == [(200,)]
    (carried,) = place.glob("*/*/*-open.jsonl.zst")
    content = carried.read_bytes()
    carried.write_bytes(content[:-9_000] if how == "cut off" else b"spoiled")
    assert ask(run, question) == [(200,)]


def test_pieces_that_were_never_written(tmp_path: Path, place: Path) -> None:
    """A file that has its size and no content, as after a power failure, is made again."""
    run = open_run(make_run(tmp_path).path)
    assert ask(run, "SELECT count(*) FROM spans") == [(12,)]
    for path in place.rglob("*.parquet"):
        path.write_bytes(bytes(path.stat().st_size))
    assert ask(run, "SELECT count(*) FROM spans") == [(12,)]


@pytest.mark.parametrize("lost", [False, True])
def test_who_reads_keeps_what_it_began_with(tmp_path: Path, place: Path, lost: bool) -> None:
    """Tables that are open stay as they are while another one makes the Run's index anew."""
    folder = make_run(tmp_path)
    question = "SELECT count(*) AS n, min(trace_id) AS first FROM spans"
    with open_tables([open_run(folder.path)]) as tables:
        before = tables.rows(question)
        for path in folder.path.rglob("*.*"):
            path.unlink()
        if lost:
            for path in place.rglob("state.json"):
                path.unlink()
        again = Made(tmp_path)
        again.artifact(chain(9, 1, writer=OTHER), writer=OTHER)
        again.manifest(OTHER)
        assert ask(open_run(folder.path), question) == [(2, trace_id(9))]
        assert tables.rows(question) == before


@pytest.mark.parametrize("name", ["a*", "a?", "[a]", "run=7", "name=x", "it's", "\udcff"])
def test_the_index_may_lie_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What the user's folder is called is neither a pattern for other files nor a column."""
    run = open_run(make_run(tmp_path / "runs").path)
    for one in ("ab", name):
        monkeypatch.setenv("ASYNCTRACK_INDEX_DIR", str(tmp_path / one))
        with open_tables([run]) as tables:
            tables.lock()
            rows = tables.rows("SELECT DISTINCT run, count(*) AS n FROM spans GROUP BY run")
        assert rows == [{"run": "one", "n": 12}]


def test_a_user_that_does_not_exist() -> None:
    """A tilde that names nobody's home is a name like any other."""
    here = place_of({"ASYNCTRACK_INDEX_DIR": "~no such user/x"})
    assert here == Path("~no such user/x/index").absolute()


def test_a_build_that_failed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read and could not be written is not taken for read by the next attempt."""
    run = open_run(make_run(tmp_path).path)
    write = pieces.Piece._write_table

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with Catalog() as catalog:
        one = filler.Filler(catalog.folder(run.found), run.found, filler.TRACES, (), run.report)
        monkeypatch.setattr(pieces.Piece, "_write_table", full)
        with pytest.raises(ReadError):
            list(one.fill())
        monkeypatch.setattr(pieces.Piece, "_write_table", write)
        list(one.fill())
        assert sum(piece.rows for piece in one.state.layers[filler.TRACES].pieces) == 6 + 12


def test_sums_of_tokens_stay_numbers(tmp_path: Path) -> None:
    """A call that says it read more than any call can does not make the Run unreadable."""
    folder = Made(tmp_path)
    events = [event(1, kind="chain_start", trace_id="t", span_id="t")]
    for n, tokens in enumerate((2**63 - 1, 2**32, 2**32 - 1)):
        ids: dict[str, Any] = {"trace_id": "t", "span_id": f"m{n}", "parent_span_id": "t"}
        events += [
            event(2 + 2 * n, kind="chat_model_start", **ids),
            event(3 + 2 * n, kind="llm_end", **ids,
                  attributes={"gen_ai.usage.input_tokens": tokens}),
        ]  # fmt: skip
    folder.artifact(events)
    folder.manifest()
    run = open_run(folder.path)
    assert ask(run, "SELECT input_tokens FROM traces") == [(2**32 - 1,)]
    assert run.summary().input_tokens == 2**32 - 1


def test_feedback_is_what_open_run_reads(tmp_path: Path) -> None:
    """Scores, labels and comments are the same by SQL and by ``feedback``, also odd ones."""
    said: list[dict[str, Any]] = [
        {"score": True},
        {"score": 2},
        {"score": 2**63},
        {"value": "rude", "user_id": "ada"},
        {"value": "", "user_id": "", "comment": ""},
        {"comment": {"$cut": "bytes", "head": "too long to"}},
    ]
    folder = Made(tmp_path)
    folder.artifact(
        [
            event(n, kind="feedback", name="x", data={"trace_id": "inner", **one},
                  trace_id="outer" if n % 2 else None)
            for n, one in enumerate(said, 1)
        ]
    )  # fmt: skip
    folder.manifest()
    run = open_run(folder.path)
    question = "SELECT seq, trace_id, score, value, comment, user_id FROM feedback ORDER BY seq"
    assert ask(run, question) == [
        (one.seq, one.trace_id, one.score, one.value, one.comment, one.user_id)
        for one in run.feedback()
    ]


def test_feedback_counts_once(tmp_path: Path) -> None:
    """What was said of a trace that two writers recorded is one feedback of its session."""
    folder = Made(tmp_path)
    for writer in (WRITER, OTHER):
        ids: dict[str, Any] = {"writer": writer, "trace_id": "t", "span_id": "t"}
        folder.artifact(
            [
                event(1, kind="chain_start", metadata={"session_id": "s"}, **ids),
                event(2, kind="chain_end", **ids),
            ],
            writer=writer,
        )
    said = {"score": 1, "trace_id": "t"}
    folder.artifact([event(n, kind="feedback", name="x", data=said) for n in (3, 4)])
    folder.manifest()
    folder.manifest(OTHER)
    with open_tables([open_run(folder.path)]) as tables:
        (found,) = sessions(tables).found
    assert [(one.count, one.mean) for one in found.feedback] == [(2, 1.0)]


def test_a_build_that_was_killed_before_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a killed process has written, the next one writes it again."""
    folder = Made(tmp_path)
    first, second = chain(1, 1)[:2]
    folder.artifact([first])
    folder.manifest(state="open")
    run = open_run(folder.path)
    question = "SELECT outcome, spans FROM traces"
    assert ask(run, question, tables=("traces",)) == [("unfinished", 1)]
    folder.artifact([second])
    folder.manifest(state="open")
    save = RunFolder.save

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save", killed)
    with Catalog() as catalog:
        own = catalog.folder(run.found)  # nothing is removed meanwhile, as nothing is by the dead
        with pytest.raises(KeyboardInterrupt):
            ask(run, question, tables=("traces",))
        monkeypatch.setattr(RunFolder, "save", save)
        assert len(list(own.path.glob("*-open.jsonl.zst"))) == 2
        assert ask(run, question, tables=("traces",)) == [("unfinished", 2)]


def test_a_full_disk_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even the Run's folder in the index can be made, the error says so."""
    run = open_run(make_run(tmp_path).path)
    with Catalog() as catalog:
        monkeypatch.setattr(catalog, "path", tmp_path / "gone")
        with pytest.raises(ReadError, match=r"No such file.*ASYNCTRACK_INDEX_DIR"):
            catalog.folder(run.found)
        monkeypatch.undo()
