"""What a notebook, a debugger and ``print`` show of Runs, traces and spans."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from asynctrack import OptionError, open_experiment, open_run
from asynctrack._reading import overview
from asynctrack._reading.trees import shown
from asynctrack._reading.trees.trace import Trace
from tests.cli.runs import HOSTILE, chain, make_run, trace_id
from tests.reading.making import RunFolder, event

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    """HTML, read as a browser does: its tags, attributes, and text; every tag closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def safe(html: str) -> Page:
    """Read HTML, and check that it can do nothing."""
    page = Page(html)
    assert {*page.tags} <= {
        "div", "b", "small", "pre", "table", "tr", "th", "td", "details", "summary"
    }  # fmt: skip
    assert page.attributes <= {"style", "open"}
    assert "url(" not in html
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    return page


def one_trace(folder: RunFolder, events: list[dict[str, Any]]) -> Trace:
    """The trace that these events are."""
    folder.artifact(events)
    (trace,) = open_run(folder.path).traces()
    return trace


def hostile(folder: RunFolder) -> Trace:
    """A trace of which every text is meant to do harm."""
    text = f"{MARKUP}{HOSTILE}\n{MARKUP}"
    events = chain(1, 1, topic=text, prompt=text, answer=text, error=text)
    for one in events:
        one["name"] = text
        one["tags"] = [text]
        one["metadata"] = {"session_id": text, text: text}
    events[1]["attributes"]["gen_ai.request.model"] = text
    events[3]["error"]["type"] = text
    return one_trace(folder, events)


def test_a_trace_says_what_it_is(folder: RunFolder) -> None:
    """Name, outcome, duration, spans and id are in the text of a trace, on one line."""
    trace = one_trace(folder, chain(1, 1, seconds=1.5, error="no"))
    assert repr(trace) == f"<Trace joke: error, 1.50 s, 2 spans, {trace_id(1)}>"
    assert repr(trace.root) == f"<Span joke: chain, error, 1.50 s, 1 below, {trace_id(1)}>"
    assert repr(trace.root.children[0]) == (
        "<Span ChatOpenAI: chat_model, ok, 1.50 s, gpt, 10 → 20 tokens, 0 below,"
        f" {trace_id(1)[:-1]}1>"
    )


def test_a_trace_in_a_notebook_is_its_tree_folded(folder: RunFolder) -> None:
    """The spans are nested details: the root's are open, with prompt and answer in those of
    models, and the error where it came up."""
    trace = one_trace(folder, chain(1, 1, topic="cats", answer="Meow", error="too loud"))
    html = trace._repr_html_()
    page = safe(html)
    assert page.tags.count("details") == 2
    assert html.count("<details open") == 1
    assert "Tell me a joke about cats" in page.text
    assert "ValueError: too loud" in page.text
    assert page.text.index("Tell me") < page.text.index("Meow")


def test_a_span_in_a_notebook_is_prompt_and_answer(folder: RunFolder) -> None:
    """A model's call shows its messages with their roles, and its answer."""
    trace = one_trace(folder, chain(1, 1, topic="cats", answer="Meow"))
    page = safe(trace.root.children[0]._repr_html_())
    assert "input: human" in page.text
    assert "Tell me a joke about cats" in page.text
    assert "output: aiMeow" in page.text
    assert "1 spans" not in page.text
    assert "1 span right below it" in safe(trace.root._repr_html_()).text


def test_what_was_logged_does_nothing(folder: RunFolder) -> None:
    """Markup, terminal escapes and marks of direction come out as text, in HTML, in the tree and
    in each line."""
    trace = hostile(folder)
    for html in (trace._repr_html_(), *(span._repr_html_() for span in trace.walk())):
        page = safe(html)
        assert "<script>alert(1)</script>" in page.text
        assert "\\x1b]0;owned\\x07" in page.text
    for text in (repr(trace), trace.tree(), *map(repr, trace.walk())):
        assert text.replace("\n", "").isprintable()
    assert trace.tree().count("\n") == 1
    assert max(map(len, trace.tree(40).split("\n"))) == 40


@pytest.mark.parametrize("letter", ["x", "\U000e0001", '"', "<"])
def test_html_is_small_however_large_the_trace(folder: RunFolder, letter: str) -> None:
    """Thousands of spans with megabytes of text, whatever it is made of, give a bounded text that
    says what it leaves out."""
    huge = letter * 100_000
    root = trace_id(1)
    events = [event(1, kind="chain_start", span_id=root, trace_id=root, name=huge)]
    for number in range(2, 600, 2):
        span = {"span_id": f"s{number}", "trace_id": root, "parent_span_id": root}
        messages = [{"type": huge, "content": huge}] * 30 if number == 2 else huge
        inputs = {"messages": [messages]}
        events.append(event(number, kind="tool_start", name=huge, inputs=inputs, **span))
        events.append(event(number + 1, kind="tool_error", **span,
                            error={"type": huge, "message": huge, "traceback": huge}))  # fmt: skip
    trace = one_trace(folder, events)
    for html in (trace._repr_html_(), trace.root.children[0]._repr_html_()):
        safe(html)
        assert len(html) <= shown.MOST
    assert re.search(r"\d+ more spans: trace.tree\(\)", trace._repr_html_())
    assert len(repr(trace)) < 300
    assert len(repr(trace.root)) < 400
    assert max(map(len, trace.tree().split("\n"))) <= 100


def test_a_deep_trace_is_shown_without_recursion(folder: RunFolder) -> None:
    """Thousands of levels are flat from some depth on, in HTML and in the tree."""
    events = [
        event(number, kind="chain_start", span_id=f"s{number}", trace_id="s1", name=f"n{number}",
              parent_span_id=f"s{number - 1}" if number > 1 else None)
        for number in range(1, 3001)
    ]  # fmt: skip
    trace = one_trace(folder, events)
    page = safe(trace._repr_html_())
    assert page.tags.count("details") == shown.SPANS
    assert "2,800 more spans" in page.text
    lines = trace.tree(60).split("\n")
    assert len(lines) == 3000
    assert "n3000" in lines[-1]
    assert max(map(len, lines)) <= 60


def test_the_tree_is_drawn(folder: RunFolder) -> None:
    """``tree`` gives a line for each span, with the error where one came up."""
    trace = one_trace(folder, chain(1, 1, seconds=0.25, error="too loud"))
    assert trace.tree() == (
        "joke: chain, error, 250 ms (ValueError: too loud)\n"
        "└─ ChatOpenAI: chat_model, ok, 248 ms, gpt, 10 → 20 tokens"
    )
    with pytest.raises(OptionError, match="width"):
        trace.tree(19)


def test_spans_are_found_by_what_they_are(folder: RunFolder) -> None:
    """``find`` gives the first span that is all that is asked for, ``find_all`` all of them;
    nothing is found where nothing is asked for."""
    trace = one_trace(folder, chain(1, 1, error="no"))
    root, model = trace.walk()
    assert trace.find(model.span_id) is model
    assert trace.find(name="ChatOpenAI") is model
    assert trace.find(kind="chain", outcome="error") is root
    assert trace.find(root.span_id, name="ChatOpenAI") is None
    assert trace.find() is trace.find(root.parent_span_id) is None
    assert trace.find_all(outcome="ok") == (model,)
    assert trace.find_all() == ()
    with pytest.raises(OptionError, match=r"outcome='failed' is not allowed: .*ok, error"):
        trace.find(outcome="failed")  # type: ignore[arg-type]


def test_a_run_in_a_notebook_is_read_from_its_manifests(tmp_path: Path) -> None:
    """A Run at a glance reads no event: not even where all artifacts are damaged."""
    made = make_run(tmp_path, chains=[{"tokens": (1_000, 50)}, {"error": "no"}])
    for path in made.path.glob("dt=*/*"):
        path.write_bytes(b"damaged")
    run = open_run(made.path)
    assert repr(run) == f"<RecordedRun jokes/one: {made.path}/>"
    page = safe(run._repr_html_())
    for said in ("traces2", "failed1", "tokens1,010 in, 70 out", "stateclosed", "From its manif"):
        assert said in page.text
    assert run.manifest.closed
    assert repr(run) == (f"<RecordedRun jokes/one, closed, 8 events by 1 writer: {made.path}/>")


def test_hostile_names_of_a_run_do_nothing(tmp_path: Path) -> None:
    """Names and parameters are text in what is shown of Runs and experiments."""
    folder = RunFolder(tmp_path, experiment=f"<b>{HOSTILE.replace('/', '')}", run="<i>\n")
    folder.artifact([event(1)])
    folder.manifest(parameters={MARKUP: MARKUP})
    experiment = open_experiment(tmp_path)
    for shows in (experiment, experiment.runs[0]):
        page = safe(shows._repr_html_())
        assert "<b>\\x1b" in page.text or "<i>" in page.text
        assert repr(shows).isprintable()


def test_a_run_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """Where the place is gone, the error stands in the notebook in place of a traceback."""
    made = make_run(tmp_path)
    experiment = open_experiment(tmp_path)
    manifests = made.path / "_manifest"
    for path in manifests.iterdir():
        path.unlink()
    manifests.rmdir()
    manifests.write_text("no folder")
    for shows in (experiment.runs[0], experiment):
        assert "cannot be read" in safe(shows._repr_html_()).text


def test_an_experiment_in_a_notebook_is_a_table_of_some_runs(tmp_path: Path) -> None:
    """Each Run is a row; of many the first ones are read, and the rest is counted."""
    for number in range(23):
        make_run(tmp_path, run=f"run-{number:02d}", chains=[{}] * 2)
    experiment = open_experiment(tmp_path)
    assert repr(experiment) == "<RecordedExperiment jokes: 23 runs>"
    page = safe(experiment._repr_html_())
    assert page.tags.count("tr") == 1 + 20
    assert "run-19closed20" in page.text
    assert "run-20" not in page.text
    assert "and 3 more" in page.text


def test_the_html_of_a_run_is_small(tmp_path: Path) -> None:
    """Thousands of parameters with long names take a line."""
    names = {f"{'p' * 1000}{number}": number for number in range(2_000)}
    run = open_run(make_run(tmp_path, **names).path)
    assert overview.PARAMETERS < 2_000
    assert len(run._repr_html_()) < 10_000
