"""The viewer over a million events, in a real Chromium: ``python -m benchmarks.view [--save]``.

Measured are the time until the index is built, the first paint after that, and how long the page
takes to answer each thing one can do there: from the event in the browser to the frame that shows
its result, the server's work, the network of this machine and the drawing included. And how long a
trace takes from its delivery to a page that is open.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks._measure import environment, save
from benchmarks.generate import START, TOPICS, generate
from tests.view.browser import chromium
from tests.view.pages import Page
from tests.view.serving import Viewer, viewer

Case = tuple[tuple[str, str], tuple[str, str]]
"""What is done and waited for, before, and then measured: an act and a condition in JavaScript."""

FIRST_PAINT: Final = 1.0
INTERACTION: Final = 0.2
REPEATED: Final = 20
"""Each interaction is measured so often, after one that does not count."""
LIVE: Final = 20
UNHURRIED: Final = "--disable-ipc-flooding-protection"
"""Without it Chromium ignores changes of the address after 200 in ten seconds: on an idle machine
this is quicker than that."""
TYPING: Final = 120
"""Milliseconds from one key to the next of somebody who types fast."""
PRIORITY: Final = -10

# Acts, waits until the page shows what is expected, and for the frame after it.
_MEASURE: Final = """
const [act, expected, done] = arguments;
const run = new Function("page", act), shown = new Function("page", "return " + expected);
const all = (selector) => [...document.querySelectorAll(selector)];
const page = {
  all,
  one: (selector) => document.querySelector(selector),
  text: (selector) => (document.querySelector(selector)?.innerText ?? ""),
  heading: () => (document.querySelector("main section.card h2")?.innerText ?? ""),
  settled: () => {
    // Every part of the page is the one that the address asks for.
    const parts = all("[data-shown]");
    return parts.length && parts.every((one) => one.dataset.shown === location.hash);
  },
  type: (value) => {
    const field = document.querySelector("input[type=search]");
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  },
  choose: (label, value) => {
    const field = document.querySelector(`[aria-label="${label}"]`);
    field.value = value;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  },
  go: (hash) => { location.hash = hash; },
  link: (text) => all("a").find((one) => one.innerText.trim() === text),
  press: (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })),
  began: performance.now(),
  letters: (word, pause) => {
    // Measured is what comes after the last key.
    [...word].forEach((_, n) => setTimeout(() => {
      page.began = performance.now();
      page.type(word.slice(0, n + 1));
      page.typed = n === word.length - 1;
    }, n * pause));
  },
};
window.page = page;
// What does not come, or fails, is told with what is there instead: a timeout says nothing.
const failed = (why) =>
  done(`${why}; at ${location.hash}: ${document.body.innerText.slice(0, 2000)}`);
const step = () => {
  const took = performance.now() - page.began;
  if (took > 10_000) failed("did not come in 10 s");
  else if (shown(page)) requestAnimationFrame(() => done(performance.now() - page.began));
  else requestAnimationFrame(attempt);
};
const attempt = () => {
  try {
    step();
  } catch (error) {
    failed(String(error));
  }
};
try {
  run(page);
  attempt();
} catch (error) {
  failed(String(error));
}
"""

# The frame in which the runs are first seen, from the start of the navigation.
_FIRST: Final = """
const look = () => document.querySelector(".runs td.name")
  ? requestAnimationFrame(() => { window.firstShown = performance.now(); })
  : requestAnimationFrame(look);
look();
"""


def main() -> None:
    """Measure, print, and save where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument(
        "--priority",
        action="store_true",
        help="let viewer and browser go before other work of a busy machine; needs the right to",
    )
    parser.add_argument("--save", action="store_true", help="as benchmarks/results/view.json")
    options = parser.parse_args()
    before = os.getloadavg()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "runs"
        events = generate(root, options.events)
        other = generate(root, 50_000, experiment="other", seed=1)
        result = measure(root, events, priority=options.priority)
    result = {
        "environment": environment(),
        "load_before": before,
        "load_after": os.getloadavg(),
        "other_events": other,
        **result,
    }
    print(json.dumps(result, indent=2))
    if options.save:
        print(save("view", result))


def measure(root: Path, events: int, *, priority: bool) -> dict[str, Any]:
    """Measure building, first paint and interactions.

    Args:
        root: The Runs.
        events: How many there are.
        priority: Let the viewer and the browser go before other work of the machine: what is
            asked is how long they take, not how busy the machine is.
    """
    began = time.perf_counter()
    with viewer(root, "--no-spool") as served, chromium(1280, 900, UNHURRIED) as driver:
        raised = prefer(served.process.pid, driver.service.process.pid) if priority else 0
        page = Page(driver, served.url)
        page.wait(lambda: page.run("return document.querySelector('.runs')") is not None, "runs")
        while_building = time.perf_counter() - began
        page.wait(lambda: not page.all(".progress"), "the index", 900)
        built = time.perf_counter() - began
        memory = _memory(served)
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _FIRST})
        paints = []
        for _ in range(REPEATED):
            driver.get("about:blank")
            driver.get(served.base)
            page.wait(lambda: page.run("return window.firstShown ?? 0") > 0, "the first paint")
            paint, shown = page.run(
                "return [performance.getEntriesByName('first-contentful-paint')[0].startTime,"
                " window.firstShown]"
            )
            paints.append((paint / 1e3, shown / 1e3))
        done = interactions(page)
        appeared = live(page, root)
    slowest = max(done, key=lambda name: done[name]["p95"])
    worst = max(one["max"] for one in done.values())
    return {
        "events": events,
        "page_while_building_seconds": round(while_building, 2),
        "index_seconds": round(built, 1),
        "index_events_per_second": round(events / built),
        "server_memory_bytes": memory,
        "priority": raised,
        "first_paint_seconds": _spread([paint for paint, _ in paints]),
        "first_paint_with_runs_seconds": _spread([shown for _, shown in paints]),
        "first_paint_limit": FIRST_PAINT,
        "interactions_seconds": done,
        "slowest_interaction": {"name": slowest, "p95": done[slowest]["p95"], "max": worst},
        "interaction_limit": INTERACTION,
        "within_limits": worst < INTERACTION and max(shown for _, shown in paints) < FIRST_PAINT,
        "live_seconds": appeared,
    }


def interactions(page: Page) -> dict[str, dict[str, float]]:
    """Do everything one can do, several times; return the seconds each took."""
    links = page.run(
        "return [...document.querySelectorAll('.runs td.name a')].map((a) => [a.innerText, a.hash])"
    )
    big = next(link for name, link in links if name.startswith("generated/"))
    small = next(link for name, link in links if name.startswith("other/"))
    pair = f"#/compare?a={big.split('/')[-1]}&b={small.split('/')[-1]}"
    home = ("page.go('#/')", "page.one('.runs td.name') && page.settled()")
    opened = "page.settled() && page.one('.chart .bar') && page.one('.tile')"
    run = (f"page.go('{big}')", f"{opened} && !page.heading().includes('matching')")
    shown = "page.settled() && page.one('.wf-row') && page.one('.span')"
    mark = "page.mark = location.hash; "
    changed = f"{shown} && location.hash !== page.mark"
    counted = "page.settled() && location.hash !== page.mark"
    first = _do(page, *run)
    trace = page.run("return document.querySelector('.traces td.name a').hash")

    def narrowed(act: str, expected: str = counted) -> Callable[[int], Case]:
        # Each time from another page, and with other words: an answer that was kept would be quick.
        def case(n: int) -> Case:
            query = f"tokens={n + 1}"
            before = f"page.go('{big}?{query}')", f"{opened} && page.heading().includes('matching')"
            filled = act.replace("QUERY", query).replace("NUMBER", str(n))
            topic = TOPICS[n % len(TOPICS)]
            return before, (mark + filled.replace("TOPIC", topic), expected.replace("TOPIC", topic))

        return case

    def fixed(before: tuple[str, str], action: tuple[str, str]) -> Callable[[int], Case]:
        return lambda _: (before, action)

    def asked(more: str) -> Callable[[int], Case]:
        return narrowed(f"page.go('{big}?QUERY&{more}')")

    def chosen(more: str) -> tuple[str, str]:
        return f"page.go('{trace}&{more}')", shown

    cases: dict[str, Callable[[int], Case]] = {
        "experiment page": fixed(run, home),
        "sort runs": fixed(
            home, ("page.link('p95').click()", "page.link('p95 ↓') && page.settled()")
        ),
        "find a run": fixed(
            home, ("page.type('run-1')", "location.hash.includes('run-1') && page.settled()")
        ),
        "run page, seen before": fixed(home, run),
        "search: one word": narrowed("page.type('TOPIC')"),
        "search: after the last of some letters": narrowed(
            f"page.letters('TOPIC', {TYPING})",
            f"{counted} && page.typed && location.hash.endsWith('text=TOPIC')",
        ),
        "search: words in a row": narrowed("page.type('\"about TOPIC NUMBER\" TOPIC')"),
        "search: rare": narrowed("page.type('TOPIC 77NUMBER')"),
        "search: nothing": narrowed("page.type('zzzzNUMBER')"),
        "filter: outcome": narrowed("page.choose('outcome', 'error')"),
        "filter: model": narrowed("page.choose('any model', 'other-large')"),
        "filter: name": narrowed(_third("any name")),
        "filter: tag": asked("tag=NUMBER"),
        "filter: slower than": asked("slower=0.5"),
        "filter: tokens": narrowed(f"page.go('{big}?tokens=7NUMBER')"),
        "histogram: a range": asked("slower=0.4&faster=0.NUMBER5"),
        "timeline: a range": asked(f"since={START // 10**9 + 3600}&until={START // 10**9 + 9000}"),
        "filter: search, model and duration": narrowed(
            f"page.go('{big}?QUERY&text=TOPIC+NUMBER&model=other-large&slower=0.1')"
        ),
        **{
            f"sort: {sort}": asked(f"sort={sort}")
            for sort in ("oldest", "slowest", "fastest", "tokens", "spans")
        },
        "next page": narrowed("page.link('next →').click()"),
        "page 1000": asked("page=999"),
        "trace page": fixed(run, ("page.one('.traces td.name a').click()", shown)),
        "choose a span": fixed(
            chosen(""),
            (
                f"{mark}page.one('.wf-row:not([data-chosen])').click()",
                changed,
            ),
        ),
        "raw JSON of a span": fixed(
            chosen("span=1"),
            (chosen("span=1&tab=raw")[0], f"{shown} && page.link('download')"),
        ),
        "the trace before": fixed(chosen("span=0"), (f"{mark}page.press('[')", changed)),
        "back to the list": fixed(chosen("span=0"), ("page.press('Escape')", opened)),
        "compare": fixed(home, (f"page.go('{pair}')", "page.one('.pairs-table, .plain')")),
    }
    done = {"run page, first time": _spread([first])}
    for name, case in cases.items():
        times = []
        for number in range(REPEATED + 1):
            before, action = case(number)
            page.run("location.hash = '#/'")
            _do(page, *before)
            times.append(_do(page, *action))
        done[name] = _spread(times[1:])
    return done


def live(page: Page, root: Path) -> dict[str, float]:
    """Return how long traces take from their delivery to a page that is open, beside all that."""
    from asynctrack import tracker

    times = []
    with tracker(root, experiment_name="live", run_name="live") as handler:
        _trace(handler, "begin")
        handler.flush()
        page.go("")
        page.shows(".runs td.name a", "live")
        page.run("[...document.querySelectorAll('.runs td.name a')].at(0).click()")
        page.shows(".preview", "begin")
        for number in range(LIVE):
            _trace(handler, f"trace {number}")
            handler.flush()
            delivered = time.perf_counter()
            shown: Callable[[], bool] = lambda number=number: (  # type: ignore[misc]  # noqa: E731
                f"trace {number}" in page.text()
            )
            page.wait(shown, "the trace")
            times.append(time.perf_counter() - delivered)
    return _spread(times)


def _trace(handler: Any, text: str) -> None:
    from langchain_core.runnables import RunnableLambda

    RunnableLambda(str).invoke(text, config={"callbacks": [handler]})


def prefer(*roots: int) -> int:
    """Let processes and all below them go before others; return their priority (nice)."""
    below: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        below.setdefault(parent, []).append(int(status.parent.name))
    waiting = list(roots)
    while waiting:
        process = waiting.pop()
        waiting += below.get(process, [])
        for task in Path(f"/proc/{process}/task").glob("[0-9]*"):
            os.setpriority(os.PRIO_PROCESS, int(task.name), PRIORITY)
    return PRIORITY


def _do(page: Page, act: str, expected: str) -> float:
    took: float | str = page.driver.execute_async_script(_MEASURE, act, expected)  # type: ignore[no-untyped-call]
    if isinstance(took, str):
        raise RuntimeError(f"after {act}, {expected}: {took}")
    return took / 1e3


def _third(label: str) -> str:
    """Choose one of the values that are offered."""
    field = f"page.one('[aria-label=\"{label}\"]')"
    return f"page.choose('{label}', {field}.options[3].value)"


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(ordered[len(ordered) // 2], 4),
        "p95": round(ordered[math.ceil(0.95 * len(ordered)) - 1], 4),
        "max": round(ordered[-1], 4),
        "count": len(ordered),
    }


def _memory(served: Viewer) -> int:
    status = Path(f"/proc/{served.process.pid}/status")
    if not status.exists():
        return 0
    line = next(one for one in status.read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
