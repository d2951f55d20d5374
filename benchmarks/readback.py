"""How fast Runs are read back, and in how much memory: ``python -m benchmarks.readback FOLDER``.

FOLDER is what ``python -m benchmarks.generate`` wrote. Each question is asked in a fresh process;
rows a second are events a second, whatever the question makes of them. Peak memory is that of the
process (of a Dask cluster: of its largest process), imports included.
"""

from __future__ import annotations

import argparse
import importlib
import io
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

from benchmarks import _measure


def _runs(folder: Path) -> Any:
    from asynctrack._backends.s3_read import Access
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.sources.locate import locate_runs

    return [RecordedRun(found) for found in locate_runs(folder, None, Access())]


def _events(folder: Path) -> dict[str, Any]:
    return {"rows": sum(1 for run in _runs(folder) for _ in run.events())}


def _traces(folder: Path) -> dict[str, Any]:
    traces = spans = 0
    for run in _runs(folder):
        for trace in run.traces():
            traces += 1
            spans += sum(1 for _ in trace.walk())
    return {"traces": traces, "spans": spans}


def _verify(folder: Path) -> dict[str, Any]:
    import asynctrack

    report = asynctrack.verify(folder)
    assert report.ok
    return {"rows": report.events, "objects": report.objects}


def _to_duckdb(folder: Path) -> dict[str, Any]:
    import duckdb

    spans = 0
    with tempfile.TemporaryDirectory() as place:
        for number, run in enumerate(_runs(folder)):
            connection = duckdb.connect(
                f"{place}/{number}.duckdb", config={"memory_limit": "128MB", "threads": 1}
            )
            run.to_duckdb(connection)
            spans += connection.execute("SELECT count(*) FROM spans").fetchone()[0]
            connection.close()
    return {"spans": spans}


def _export(folder: Path) -> dict[str, Any]:
    from asynctrack._reading.export.files import export_run

    class Nowhere(io.RawIOBase):
        def write(self, content: Any) -> int:
            return len(content)

    rows = sum(export_run(run, "parquet", Nowhere()).rows for run in _runs(folder))
    return {"spans": rows}


def _duckdb_files(folder: Path) -> dict[str, Any]:
    import duckdb

    example = _example("duckdb_s3")
    rows = duckdb.connect().execute(example.QUESTION.format(root=folder)).fetchall()
    return {"answer": len(rows), "calls": sum(row[2] for row in rows)}


def _duckdb_compact(folder: Path) -> dict[str, Any]:
    import duckdb

    question = _example("duckdb_s3").QUESTION
    start, end = question.index("FROM read_json("), question.index("WHERE event IN")
    question = (
        f"{question[:start]}FROM read_parquet('{folder}/asynctrack/v1-compact/*/*/*/*.parquet',"
        f" hive_partitioning = true) {question[end:]}"
    ).replace("max(duration)", "max((rest->>'$.duration')::DOUBLE)")
    rows = duckdb.connect().execute(question.replace("{{", "{").replace("}}", "}")).fetchall()
    return {"answer": len(rows), "calls": sum(row[2] for row in rows)}


def _compact(folder: Path) -> dict[str, Any]:
    from asynctrack._reading.compaction.compact import compact_run

    events = files = size = before = 0
    for run in _runs(folder):
        for location in run.found.locations:
            report = compact_run(location, now=time.time())
            events += report.events
            files += len(report.files)
            size += report.file_bytes
            before += report.segment_bytes
    return {"rows": events, "files": files, "segment_bytes": before, "file_bytes": size}


def _compacted_events(folder: Path) -> dict[str, Any]:
    """Read events where the segments were deleted."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        root = Path(place) / "asynctrack"
        (root / "v1").mkdir(parents=True)
        (root / "v1-compact").symlink_to((folder / "asynctrack/v1-compact").absolute())
        for manifests in folder.glob("asynctrack/v1/*/*/_manifest"):
            copy = root / manifests.relative_to(folder / "asynctrack")
            shutil.copytree(manifests, copy)
        return _events(Path(place))


def _dask(folder: Path) -> dict[str, Any]:
    from distributed import Client, LocalCluster

    example = _example("dask_cluster")
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster),
        redirect_stdout(io.StringIO()),
    ):
        answer = example.ask(str(folder), {})
    return {"answer": len(answer), "calls": int(answer["calls"].sum())}


def _example(name: str) -> Any:
    path = _measure.ROOT / f"benchmarks/engines/{name}.py"
    # By its name, so that Dask's workers find it too.
    sys.path.insert(0, str(path.parent))
    return importlib.import_module(name)


QUESTIONS: Final[dict[str, tuple[str, Callable[[Path], dict[str, Any]]]]] = {
    "events": ("`run.events()`", _events),
    "traces": ("`run.traces()`", _traces),
    "verify": ("`asynctrack verify`", _verify),
    "to_duckdb": ("`run.to_duckdb()`, a database on disk", _to_duckdb),
    "export": ("`asynctrack export --format parquet`", _export),
    "duckdb": ("DuckDB over the segments: p95 and tokens by model and day", _duckdb_files),
    "dask": ("Dask, 2 processes, over the segments: the same question", _dask),
    "compact": ("`asynctrack compact`", _compact),
    "compact_events": ("`run.events()` of what was compacted, segments deleted", _compacted_events),
    "compact_duckdb": ("DuckDB over the compacted Parquet: the same question", _duckdb_compact),
}
"""In words, and what asks it; a question may need what an earlier one left."""


def ask(name: str, folder: Path) -> dict[str, Any]:
    """Ask a question in this process."""
    began, cpu = time.perf_counter(), time.process_time()
    found = QUESTIONS[name][1](folder)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(one).ru_maxrss for one in who) * 1024
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak, **found}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--name", default="readback", help="of the result, in benchmarks/results")
    parser.add_argument("--save", action="store_true", help="write the result")
    options = parser.parse_args()
    folder = options.folder.absolute()
    questions: dict[str, Any] = {}
    events = ask("verify", folder)["rows"]
    stored = [path for path in folder.glob("asynctrack/v1/**/*.jsonl*") if path.is_file()]
    size = sum(path.stat().st_size for path in stored)
    print(f"{events:,} events in {len(stored):,} objects of {size:,} bytes")
    for name in options.only:
        spec = {"name": name, "folder": str(folder)}
        found = _measure.fresh_process("benchmarks._readback_child", spec, timeout=7200.0)
        found["rows_per_second"] = round(events / found["seconds"])
        questions[name] = {"title": QUESTIONS[name][0], **found}
        print(
            f"{name:15} {found['seconds']:8.1f} s {found['rows_per_second']:10,} rows/s"
            f" {found['peak_bytes'] / 1e6:8.0f} MB",
            flush=True,
        )
        if options.save:  # after each: the last ones take long
            result = {"events": events, "objects": len(stored), "bytes": size}
            _measure.save(options.name, {**result, "questions": questions})


if __name__ == "__main__":
    main()
