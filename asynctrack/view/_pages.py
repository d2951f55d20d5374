"""What each page shows, as plain data. Every method blocks: it is called in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from asynctrack._errors import NotFoundError, OptionError
from asynctrack._reading.index.said import MAX_NAME, answer_of

from . import _queries
from ._blocks import Side
from ._compare import components_of, differences_of, in_order, matches_of, metrics_of, pairs_of
from ._filters import PAGE, SORTS, Filters
from ._images import to_show
from ._index import Index
from ._indexer import Indexer
from ._progress import RunState
from ._pytest_case import pytest_case
from ._sessions import conversation_page, feedback_of, sessions_page, where_of
from ._shapes import (
    PARAMETERS,
    Asked,
    Data,
    between,
    described,
    error_texts,
    extra_of,
    handed_of,
    in_seconds,
    number_of,
    page_of,
    payload_of,
    raw_of,
    said,
    sort_key,
    stream_of,
    totals_of,
    varying,
    why_of,
)
from ._tree import critical_parts, wrappers

RUNS: Final = 100
"""Runs on one page."""
SLICE: Final = 2_000_000
"""Characters of a long text that are sent together."""
ANSWERS: Final = 200
"""Answers that are kept while their Run does not change."""
UNFOLDED: Final = ("inputs", "outputs", "handed")
"""The sides of a span whose strings are shown as values where they are JSON."""
SHAPED: Final = 20_000
"""Spans of a trace up to which it is told which decide its duration, and which only wrap others."""
PARTS: Final = 200
"""Parts of the critical path that are drawn of one span."""
LARGE: Final = 5_000
"""With this many traces, a Run's page is prepared before it is opened."""

_RUN_SORTS: Final = ("started", "name", "traces", "failed", "p50", "p95", "tokens", "cost")


class Pages:
    """Answers what the browser asks.

    Args:
        index: The index.
        indexer: What fills it.
        title: What is viewed, as the user named it.
        priced: Whether prices were given.
    """

    def __init__(self, index: Index, indexer: Indexer, title: str, *, priced: bool) -> None:
        self._index = index
        self._indexer = indexer
        self._title = title
        self._priced = priced
        self._answers: dict[tuple[Any, ...], tuple[int, Any]] = {}
        self._totals: dict[int, tuple[int, Data | None]] = {}
        self._keeping = threading.Lock()

    def state(self, asked: Asked) -> Data:
        """Return how far the index is; asked very often, and answered from memory."""
        self._indexer.watched(asked.get("run") or None)
        runs = self._indexer.runs
        return {
            "version": sum(run.version for run in runs) + len(runs),
            "events": sum(run.events for run in runs),
            "total": sum(run.total for run in runs),
            "runs": len(runs),
            "reading": sum(run.phase != "ready" and run.error is None for run in runs),
            "live": sum(run.live for run in runs),
            "run": self._run_state(asked["run"]) if asked.get("run") else None,
        }

    def warm(self, run: RunState) -> None:
        """Prepare what the page of a large Run shows first."""
        if run.traces >= LARGE:
            self._index.tidy()
            self._totals_of([run])
            self._facets([run], Filters())
            self.components({"run": run.id})
            self._overview(run, Filters())

    def home(self, asked: Asked) -> Data:
        """Return the Runs of all experiments, or of one, in numbers."""
        runs = self._indexer.runs
        experiments = sorted({run.experiment for run in runs})
        chosen = asked.get("experiment") or (experiments[0] if len(experiments) == 1 else None)
        words = asked.get("text", "").lower().split()
        rows = []
        totals = self._totals_of(runs)
        for run in runs:
            if chosen is not None and run.experiment != chosen:
                continue
            if not all(word in f"{run.experiment}/{run.name}".lower() for word in words):
                continue
            rows.append({**described(run), **totals_of(totals.get(run.number))})
        sort, descending = asked.get("sort", "-started"), True
        if sort.startswith("-"):
            sort = sort[1:]
        else:
            descending = False
        if sort not in _RUN_SORTS:
            raise OptionError("sort", sort[:40], f"one of {', '.join(_RUN_SORTS)}")
        known = [row for row in rows if sort_key(row, sort) is not None]
        unknown = [row for row in rows if sort_key(row, sort) is None]
        known.sort(key=lambda row: sort_key(row, sort), reverse=descending)
        rows = known + unknown
        page = page_of(asked)
        shown = rows[page * RUNS : (page + 1) * RUNS]
        return {
            "title": self._title,
            "priced": self._priced,
            "experiments": [
                {
                    "name": name,
                    "runs": sum(run.experiment == name for run in runs),
                    "live": sum(run.live for run in runs if run.experiment == name),
                }
                for name in experiments
            ],
            "experiment": chosen,
            "runs": shown,
            "count": len(rows),
            "page": page,
            "pages": max(1, -(-len(rows) // RUNS)),
            "varying": varying([row["parameters"] for row in shown]),
            "course": [
                {name: row[name] for name in ("id", "experiment", "name", "started", "latency",
                                              "tokens", "cost", "failed", "traces")}
                for row in sorted(rows, key=lambda row: row["started"] or 0)
                if row["started"]
            ][-500:],
        }  # fmt: skip

    def run(self, asked: Asked) -> Data:
        """Return a Run: its parameters and metrics."""
        run = self._run(asked)
        return {
            **described(run),
            "uris": run.uris,
            "priced": self._priced,
            "metrics": {
                name: {**asdict(metric), "mean": metric.mean}
                for name, metric in list(run.metrics.items())[:PARAMETERS]
            },
            "problems": [str(problem) for problem in run.problems[:50]],
            "problem_count": len(run.problems),
            "sorts": list(SORTS),
        }

    def traces(self, asked: Asked) -> Data:
        """Return a page of traces."""
        run = self._run(asked)
        filters = Filters.of(asked)
        sort = asked.get("sort") or "newest"
        if sort not in SORTS:
            raise OptionError("sort", sort[:40], f"one of {', '.join(SORTS)}")
        page = page_of(asked)
        version = run.version
        rows = _queries.traces(self._index, run.number, filters, sort, page, version)
        return {
            "version": version,
            "page": page,
            "more": len(rows) > PAGE,
            "size": PAGE,
            "traces": [said(in_seconds(row, "start")) for row in rows[:PAGE]],
        }

    def overview(self, asked: Asked) -> Data:
        """Return the chosen traces in numbers and charts."""
        run = self._run(asked)
        found = self._overview(run, Filters.of(asked))
        return {**found, "totals": totals_of(found["totals"])}

    def facets(self, asked: Asked) -> Data:
        """Return what the traces that are chosen can be chosen by further."""
        return self._facets(self._runs(asked), Filters.of(asked))

    def sessions(self, asked: Asked) -> Data:
        """Return a page of the sessions of a Run, or of all Runs of an experiment; or of users."""
        runs = self._runs(asked)
        found = sessions_page(self._index, runs, asked)
        return {**found, "where": where_of(runs, asked), "priced": self._priced}

    def conversation(self, asked: Asked) -> Data:
        """Return a page of the turns of a session."""
        runs = self._runs(asked)
        return {**conversation_page(self._index, runs, asked), "where": where_of(runs, asked)}

    def components(self, asked: Asked) -> Data:
        """Return the chosen traces of a Run by tool, model, retriever and chain."""
        run, filters = self._run(asked), Filters.of(asked)
        version = run.version
        found: list[Data] = self._kept(
            ("components", run.number, filters),
            version,
            lambda: _queries.components(self._index, [run.number], filters, version),
        )
        return {"priced": self._priced, "components": found}

    def compare(self, asked: Asked) -> Data:
        """Return two Runs side by side, the earlier one first."""
        asked_for = [self._run({"run": asked.get(name, "")}) for name in ("a", "b")]
        totals = self._totals_of(asked_for)
        shown = {number: totals_of(row) for number, row in totals.items()}
        runs = in_order(asked_for, {number: one["started"] for number, one in shown.items()})
        if asked.get("swap"):
            runs.reverse()
        versions = sum(run.version for run in runs)
        key = tuple(run.number for run in runs)
        components = self._kept(
            ("compared", *key), versions, lambda: components_of(self._index, runs)
        )
        matches = self._kept(("matched", *key), versions, lambda: matches_of(self._index, runs))
        sides = [
            {
                **described(run),
                **(shown.get(run.number) or totals_of(None)),
                "bins": self._overview(run, Filters())["bins"],
                "metrics": metrics_of(run),
            }
            for run in runs
        ]
        return {
            "priced": self._priced,
            "per_ten": _queries.BINS,
            "sides": sides,
            "differences": differences_of(sides, components),
            "components": components,
            **pairs_of(self._index, runs, matches, page_of(asked)),
        }

    def trace(self, asked: Asked) -> Data:
        """Return a trace with its first spans, or with those that come after a number of them."""
        run = self._run(asked)
        found = self._trace(run, asked)
        number = found["no"]
        limits = _queries.bounds(self._index, number)
        zero = limits["first"]
        rows = _queries.spans(self._index, number, number_of(asked, "after"))
        parts, wraps = self._tree(number) if found["spans"] <= SHAPED else ([], [])
        for row in rows:
            place = row["place"]
            row["at"] = between(zero, row.pop("start"))
            row["wrapper"] = bool(wraps) and wraps[place]
            row["critical"] = [
                [between(zero, first), between(zero, last)]
                for first, last in (parts[place][:PARTS] if parts else ())
            ]
        waits, resumed_by = [], None
        if found["cause"] == "pause":
            waits = _queries.waits(self._index, number)
            resumed_by = _queries.resumed_by(self._index, run.number, found["trace_id"])
        return {
            **said(in_seconds({name: found[name] for name in found if name != "no"}, "start")),
            **_queries.neighbours(
                self._index, run.number, found["start"], number, found["session_id"]
            ),
            "waits": waits,
            "resumed_by": resumed_by,
            "feedback": feedback_of(self._index, run, found["trace_id"]),
            "run": described(run, short=True),
            "length": between(zero, limits["last"]),
            "rows": list(map(said, rows)),
        }

    def span(self, asked: Asked) -> Data:
        """Return a span: its prompt and its answer as blocks, its error, stream and attributes."""
        run = self._run(asked)
        row, payload = self._span(run, asked)
        size = len(raw_of(row, payload))
        data = payload.get("data") or {}
        answer = answer_of(payload.get("outputs"), data)
        error = payload.get("error")
        return {
            **said(in_seconds(row, "start", "end")),
            "tags": [str(tag)[:MAX_NAME] for tag in payload.get("tags") or []],
            "inputs": Side(payload.get("inputs")).blocks,
            "outputs": Side(answer).blocks,
            "partial": answer is not payload.get("outputs"),
            "failure": None if error is None else Side(error_texts(error), unfold=False).blocks,
            "handed": Side(handed_of(payload)).blocks,
            "why": why_of(row["outcome"], payload.get("exception")),
            "stream": stream_of(data.get("stream")),
            "extra": Side(extra_of(payload), unfold=False).blocks,
            "bytes": size,
        }

    def text(self, asked: Asked) -> Data:
        """Return a part of a text that was cut."""
        run = self._run(asked)
        row, payload = self._span(run, asked)
        side = asked.get("side", "")
        number, at = number_of(asked, "number"), number_of(asked, "at")
        values: dict[str, Callable[[], Any]] = {
            "inputs": lambda: payload.get("inputs"),
            "outputs": lambda: answer_of(payload.get("outputs"), payload.get("data") or {}),
            "handed": lambda: handed_of(payload),
            "error": lambda: error_texts(payload.get("error")),
            "extra": lambda: extra_of(payload),
            "raw": lambda: raw_of(row, payload),
        }
        if side not in values:
            raise OptionError("side", side[:40], f"one of {', '.join(values)}")
        found = Side(values[side](), whole=number, unfold=side in UNFOLDED).found
        if found is None:
            raise NotFoundError(f"there is no text {number} in the {side} of this span")
        piece = found[at : at + SLICE]
        return {"piece": piece, "next": at + len(piece)}

    def image(self, asked: Asked) -> tuple[bytes, str]:
        """Return an image of a span, and its type; by its number, as texts that were cut."""
        run = self._run(asked)
        _, payload = self._span(run, asked)
        side, number = asked.get("side", ""), number_of(asked, "number")
        if side not in ("inputs", "outputs"):
            raise OptionError("side", side[:40], "inputs or outputs")
        images = Side(payload.get(side)).images
        shown = to_show(images[number]) if number < len(images) else None
        if shown is None:
            raise NotFoundError(f"there is no image {number} to show in the {side} of this span")
        return shown

    def raw(self, asked: Asked) -> Data:
        """Return everything that was logged of a span as JSON, cut if it is long."""
        return {"blocks": Side(self.download(asked), unfold=False).blocks}

    def download(self, asked: Asked) -> str:
        """Return everything that was logged of a span as JSON, whole."""
        run = self._run(asked)
        return raw_of(*self._span(run, asked))

    def case(self, asked: Asked) -> Data:
        """Return a span as a test."""
        run = self._run(asked)
        row, payload = self._span(run, asked)
        code = pytest_case(row, payload, str(asked.get("trace")), run.uris[0])
        return {"code": code}

    # -- inside -------------------------------------------------------------------------------

    def _overview(self, run: RunState, filters: Filters) -> Data:
        version = run.version
        found: Data = self._kept(
            ("overview", run.number, filters),
            version,
            lambda: _queries.overview(self._index, run.number, filters, version),
        )
        return found

    def _tree(self, number: int) -> tuple[list[list[tuple[int, int]]], list[bool]]:
        rows = _queries.shape(self._index, number)
        return critical_parts(rows), wrappers(rows)

    def _totals_of(self, runs: list[RunState]) -> dict[int, Data]:
        """Return counts and percentiles of Runs; queries only those that have changed."""
        versions = {run.number: run.version for run in runs}
        changed = [
            number
            for number, version in versions.items()
            if number not in self._totals or self._totals[number][0] != version
        ]
        if changed:
            found = _queries.totals(self._index, changed)
            self._totals.update(
                {number: (versions[number], found.get(number)) for number in changed}
            )
        kept = {number: self._totals[number][1] for number in versions}
        return {number: totals for number, totals in kept.items() if totals is not None}

    def _facets(self, runs: list[RunState], filters: Filters) -> Data:
        version, numbers = sum(run.version for run in runs), [run.number for run in runs]
        found: Data = self._kept(
            ("facets", *numbers, filters),
            version,
            lambda: _queries.facets(self._index, numbers, filters, version),
        )
        return found

    def _kept(self, key: tuple[Any, ...], version: int, answer: Callable[[], Any]) -> Any:
        """Return an answer that holds for a version of a Run; computed once for each version."""
        kept = self._answers.get(key)
        if kept is not None and kept[0] == version:
            return kept[1]
        found = answer()
        with self._keeping:
            self._answers[key] = version, found
            while len(self._answers) > ANSWERS:
                self._answers.pop(next(iter(self._answers)))
        return found

    def _run(self, asked: Asked) -> RunState:
        run = self._indexer.find(asked.get("run", ""))
        if run is None:
            raise NotFoundError("there is no such Run here")
        return run

    def _runs(self, asked: Asked) -> list[RunState]:
        """Return a Run, or all Runs of an experiment."""
        experiment = asked.get("experiment")
        if asked.get("run") or not experiment:
            return [self._run(asked)]
        runs = [run for run in self._indexer.runs if run.experiment == experiment]
        if not runs:
            raise NotFoundError("there is no such experiment here")
        return runs

    def _run_state(self, id: str) -> Data | None:  # noqa: A002  # its name in links
        run = self._indexer.find(id)
        if run is None:
            return None
        return {
            "version": run.version,
            "phase": run.phase,
            "events": run.events,
            "total": run.total,
            "spooled": run.spooled,
            "live": run.live,
            "closed": run.closed,
            "error": run.error,
        }

    def _trace(self, run: RunState, asked: Asked) -> Data:
        writer = asked.get("writer") or None
        rows = _queries.trace(self._index, run.number, asked.get("trace", ""), writer)
        if not rows:
            raise NotFoundError("there is no such trace in this Run, or it is not read yet")
        return rows[0]

    def _span(self, run: RunState, asked: Asked) -> tuple[Data, Data]:
        found = self._trace(run, asked)
        row = _queries.span(self._index, found["no"], number_of(asked, "place"))
        if row is None:
            raise NotFoundError("there is no such span in this trace")
        return row, payload_of(row)
