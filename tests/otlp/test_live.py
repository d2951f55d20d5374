"""``otlp=``: finished traces go to a receiver, whatever that does, and hold up nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from asynctrack import MissingExtraError, open_run, tracker
from asynctrack._otlp import assembling, exporter, feed, requests, sender, sending
from asynctrack._reading.export.otlp_span import span_id_of, trace_id_of
from tests.support.otlp import OtlpReceiver
from tests.support.tls import tls_proxy

ANSWER = AIMessage("hi", usage_metadata={"input_tokens": 3, "output_tokens": 1, "total_tokens": 4})


def chain(*, fails: bool = False) -> Any:
    """A chain of a model and a step, three spans."""

    def step(message: AIMessage) -> str:
        if fails:
            raise ValueError("no")
        return str(message.content)

    return GenericFakeChatModel(messages=iter([ANSWER])) | RunnableLambda(step, name="step")


def track(folder: Path, receiver: OtlpReceiver, chains: int = 1, **options: Any) -> Any:
    """Track chains one after the other; return the statistics at the end."""
    made = tracker(folder, otlp=receiver.url, **options)
    with made as handler:
        for _ in range(chains):
            chain().invoke("hello", {"callbacks": [handler]})
    return made.statistics()


def facts(span: Any) -> dict[str, Any]:
    """The attributes of a span."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_trace_is_sent_as_it_is_exported(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """What arrives has the ids, names, times and attributes that the export writes."""
    counted = track(tmp_path, receiver, run_name="one")
    assert (counted.traces_sent, counted.traces_dropped, counted.traces_waiting) == (1, {}, 0)
    spans = receiver.spans()
    (trace,) = open_run(tmp_path).traces()
    assert [span.trace_id.hex() for span in spans] == [trace_id_of(trace.trace_id)] * 3
    assert [span.span_id.hex() for span in spans] == [
        span_id_of(one.span_id) for one in trace.walk()
    ]
    root, model, step = spans
    assert not root.parent_span_id
    assert model.parent_span_id == step.parent_span_id == root.span_id
    assert (root.start_time_unix_nano, model.kind, step.kind) == (trace.start_unix_nano, 3, 1)
    said = facts(model)
    assert said["gen_ai.usage.input_tokens"] == 3
    assert json.loads(said["gen_ai.output.messages"])[0]["parts"][0]["content"] == "hi"
    (resource,) = receiver.requests[0].resource_spans
    assert facts(resource.resource)["asynctrack.run"] == "one"


def test_it_is_sent_while_the_tracker_is_open(
    tmp_path: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace goes out soon after its end; a failed one with its error."""
    monkeypatch.setattr(assembling, "GRACE", 0.01)
    with tracker(tmp_path, otlp=receiver.url, max_delay=0.01) as handler:
        with pytest.raises(ValueError, match="no"):
            chain(fails=True).invoke("hello", {"callbacks": [handler]})
        spans = receiver.wait_for(3)
    assert [span.status.code for span in spans] == [2, 0, 2]
    assert spans[2].events[-1].name == "exception"
    assert len(receiver.spans()) == 3


def test_a_trace_over_several_artifacts(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """A trace whose events are in ten artifacts, with values stored once in each, arrives whole."""
    prompt = "long " * 2_000

    def many(text: str, config: Any) -> str:
        for _ in range(20):
            RunnableLambda(lambda given: given, name="inner").invoke(text, config)
        return "done"

    made = tracker(tmp_path, otlp=receiver.url, max_batch_events=4)
    with made as handler:
        RunnableLambda(many).invoke(prompt, {"callbacks": [handler]})
    assert made.statistics().artifacts >= 10
    spans = receiver.spans()
    assert len(spans) == 21 and {facts(one)["input.value"] for one in spans} == {prompt}
    assert made.statistics().traces_sent == 1


async def test_nothing_happens_in_the_loop_of_the_user(
    tmp_path: Path, receiver: OtlpReceiver
) -> None:
    """In an event loop a blocking call of ours would fail this test; all traces arrive."""
    made = tracker(tmp_path, otlp=receiver.url)
    async with made as handler:
        await asyncio.gather(
            *(chain().ainvoke("hello", {"callbacks": [handler]}) for _ in range(20))
        )
    assert made.statistics().traces_sent == 20
    assert len({span.trace_id for span in receiver.spans()}) == 20


def test_the_standard_variables(
    tmp_path: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They alone send nothing; with True they name the receiver, headers and compression."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url.removesuffix("/v1/traces"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with tracker(tmp_path) as handler:
        chain().invoke("hello", {"callbacks": [handler]})
    assert receiver.headers == []
    with tracker(tmp_path, otlp=True) as handler:
        chain().invoke("hello", {"callbacks": [handler]})
    assert len(receiver.spans()) == 3
    (headers,) = receiver.headers
    assert (headers["x-key"], headers["content-encoding"]) == ("abc", "gzip")


def test_over_tls(tmp_path: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody trusts gets nothing; with its authority named, all arrives."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # count more, with requests
        monkeypatch.delenv(name, raising=False)
    with tls_proxy(receiver.url.removesuffix("/v1/traces")) as proxy:
        address = f"{proxy.https_url}/v1/traces"
        made = tracker(tmp_path, otlp=address, close_patience=0.5)
        with made as handler:
            chain().invoke("hello", {"callbacks": [handler]})
        assert made.statistics().traces_dropped == {"close_timeout": 1}
        assert proxy.received == b""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(proxy.bundle(tmp_path)))
        sender._senders.clear()  # its exporter has read the variables
        made = tracker(tmp_path, otlp=address)
        with made as handler:
            chain().invoke("hello", {"callbacks": [handler]})
    assert made.statistics().traces_sent == 1


def test_a_receiver_that_hangs(
    tmp_path: Path, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """It delays neither delivery nor closing beyond its patience; what is not sent is counted,
    and said."""
    receiver.hang()
    begun = time.monotonic()
    made = tracker(tmp_path, otlp=receiver.url, max_delay=0.01, close_patience=1.0)
    with made as handler:
        chain().invoke("hello", {"callbacks": [handler]})
        assert handler.flush(30)  # to the folder
    assert time.monotonic() - begun < 45, "the receiver would be waited for a minute"
    counted = made.statistics()
    assert (counted.delivered, counted.traces_dropped) == (counted.accepted, {"close_timeout": 1})
    assert "not sent 1 trace" in caplog.text and "export --to" in caplog.text


def test_a_receiver_in_trouble(
    tmp_path: Path, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Its failures are repeated until it takes the trace; the exporter's own records of each are
    not logged."""
    receiver.answers += [503, 404, 401, 500]
    counted = track(tmp_path, receiver)
    assert counted.traces_sent == 1
    assert len(receiver.headers) == 5
    assert [one for one in caplog.records if one.name.startswith("opentelemetry")] == []
    assert "cannot send traces" in caplog.text


def test_a_refused_trace_costs_no_other(
    tmp_path: Path, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that is refused is sent again trace by trace; the one at fault is counted."""
    receiver.answers += [400, 400]  # the request of three, then the first by itself
    counted = track(tmp_path, receiver, chains=3)
    assert (counted.traces_sent, counted.traces_dropped) == (2, {"refused": 1})
    assert len(receiver.spans()) == 6
    assert "refuses" in caplog.text


def test_what_fails_for_one_trace_only(
    tmp_path: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace that the receiver fails on for good is dropped in the end; the others arrive."""
    monkeypatch.setattr(sending, "GIVE_UP", 0.0)
    receiver.answers += [500, 500]  # the request of both, then the first by itself
    counted = track(tmp_path, receiver, chains=2)
    assert (counted.traces_sent, counted.traces_dropped) == (1, {"unreachable": 1})


def test_what_waits_is_bounded(
    tmp_path: Path,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Artifacts beyond the bound are dropped, their traces counted; nothing else is held up."""
    monkeypatch.setattr(feed, "WAITING_BYTES", 2_000)
    monkeypatch.setattr(assembling, "GRACE", 0.0)
    receiver.hang()
    made = tracker(tmp_path, otlp=receiver.url, max_batch_events=6, close_patience=0.5)
    with made as handler:
        for _ in range(20):
            chain().invoke("hello", {"callbacks": [handler]})
        assert handler.flush(60)
    counted = made.statistics()
    assert counted.delivered == counted.accepted == 120
    assert counted.traces_dropped["buffer_full"] > 0
    assert sum(counted.traces_dropped.values()) + counted.traces_sent == 20
    assert "more slowly than they come" in caplog.text


def test_a_trace_that_is_too_large(
    tmp_path: Path,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A trace that grows beyond the bound before it ends is dropped whole; the next one is sent."""
    monkeypatch.setattr(assembling, "OPEN_BYTES", 20_000)

    def many(text: str, config: Any) -> str:
        for number in range(100):
            RunnableLambda(lambda given: given).invoke(f"{number}" * 50, config)
        return text

    made = tracker(tmp_path, otlp=receiver.url, max_batch_events=20)
    with made as handler:
        RunnableLambda(many).invoke("x", {"callbacks": [handler]})
        chain().invoke("hello", {"callbacks": [handler]})
    counted = made.statistics()
    assert (counted.traces_sent, counted.traces_dropped) == (1, {"too_large": 1})
    assert len(receiver.spans()) == 3
    assert "too large to be kept" in caplog.text


def test_a_large_trace_is_several_requests(
    tmp_path: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace of more spans than a request holds is sent in several, and counts once."""
    monkeypatch.setattr(requests, "SPANS", 2)
    counted = track(tmp_path, receiver)
    assert counted.traces_sent == 1
    assert [len(one.resource_spans[0].scope_spans[0].spans) for one in receiver.requests] == [2, 1]


def test_open_spans_are_sent_when_the_tracker_closes(
    tmp_path: Path, receiver: OtlpReceiver
) -> None:
    """A trace that has not ended by then arrives as abandoned."""
    made = tracker(tmp_path, otlp=receiver.url)
    with made as handler:
        handler.on_chain_start({}, {"a": 1}, run_id=__import__("uuid").uuid4())
    (span,) = receiver.spans()
    assert facts(span)["asynctrack.outcome"] == "abandoned"
    assert made.statistics().traces_sent == 1


@pytest.mark.parametrize("metadata", [{}, {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}])
def test_what_comes_late_joins_its_trace(
    tmp_path: Path,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    metadata: dict[str, str],
) -> None:
    """A step in the background of a trace that was sent arrives too, with its trace's id, which is
    a service's where the trace joined one."""
    from uuid import uuid4

    monkeypatch.setattr(assembling, "GRACE", 0.01)
    root, late = uuid4(), uuid4()
    made = tracker(tmp_path, otlp=receiver.url, max_delay=0.01)
    with made as handler:
        handler.on_chain_start({}, {}, run_id=root, metadata=metadata)
        handler.on_chain_end({}, run_id=root)
        receiver.wait_for(1)
        handler.on_chain_start({}, {}, run_id=late, parent_run_id=root)
        handler.on_chain_end({}, run_id=late, parent_run_id=root)
    first, second = receiver.spans()
    assert second.trace_id == first.trace_id and second.parent_span_id == first.span_id
    assert (first.trace_id == b"\xab" * 16) == bool(metadata)
    assert made.statistics().traces_sent == 1


def _in_a_child(folder: str, url: str) -> None:
    with tracker(folder, otlp=url) as handler:
        chain().invoke("hello", {"callbacks": [handler]})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # Python's advice
def test_a_tracker_that_comes_as_the_thread_ends(
    tmp_path: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that ends closes its own connections, and not those of the next one."""
    ends, made = threading.Event(), threading.Event()
    wait, make = sender.Sender._wait, exporter.Exporter.__init__
    threads: list[threading.Thread] = []

    def waits(self: Any) -> bool:
        found = wait(self)
        if not found and not ends.is_set():
            threads.append(threading.current_thread())
            made.clear()
            ends.set()
            made.wait(60)  # the next one is faster
        return found

    def makes(self: Any, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        made.set()

    monkeypatch.setattr(sender, "LINGER", 0.0)
    monkeypatch.setattr(sender.Sender, "_wait", waits)
    monkeypatch.setattr(exporter.Exporter, "__init__", makes)
    assert track(tmp_path, receiver).traces_sent == 1
    assert ends.wait(60)
    with tracker(tmp_path, otlp=receiver.url) as handler:
        threads[0].join(60)
        chain().invoke("hello", {"callbacks": [handler]})
    counted = handler.statistics()
    assert (counted.traces_sent, counted.traces_dropped) == (1, {})


def test_in_the_child_of_a_fork(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """A child of a process that sends traces has a thread and an exporter of its own."""
    track(tmp_path, receiver)
    process = multiprocessing.get_context("fork").Process(
        target=_in_a_child, args=(str(tmp_path), receiver.url)
    )
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert len({span.trace_id for span in receiver.wait_for(6)}) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_after_a_tracker_that_sends_nothing(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """An open tracker sends from a forked child too, also if the process began with one without."""
    code = f"""
import os
from asynctrack import tracker
with tracker("runs") as first:
    with tracker("runs", otlp={receiver.url!r}) as handler:
        with handler.span("parent"):
            pass
        handler.flush()
        child = os.fork()
        with handler.span("child" if child == 0 else "again"):
            pass
        if child == 0:
            from asynctrack._engine import at_exit
            at_exit._close_all()
            os._exit(0)
        os.waitpid(child, 0)
"""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)
    assert {span.name for span in receiver.spans()} == {"parent", "child", "again"}


def test_without_the_extra(tmp_path: Path) -> None:
    """The call names the extra, and nothing is made; without otlp it is not needed."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from asynctrack import tracker, MissingExtraError\n"
        "tracker('runs')\n"
        "try: tracker('runs', otlp=True)\n"
        "except MissingExtraError as error: print(error.extra, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("otel Sending traces") and "[otel]" in done.stdout
    assert issubclass(MissingExtraError, ImportError)
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_opentelemetry_is_imported_where_nobody_asks(
    tmp_path: Path, receiver: OtlpReceiver
) -> None:
    """A tracker without otlp imports none of it; with it, the user's thread imports none."""
    without = (
        "import sys\n"
        "from asynctrack import tracker\n"
        "with tracker('runs') as handler: pass\n"
        "assert 'opentelemetry.sdk' not in sys.modules and 'requests' not in sys.modules\n"
        "assert 'asynctrack._otlp.exporter' not in sys.modules\n"
    )
    with_it = (
        "import sys, threading\n"
        "seen = {}\n"
        "def imports(event, about):\n"
        "    if event == 'import' and about[0].startswith(('requests', 'opentelemetry.sdk')):\n"
        "        thread = threading.current_thread()\n"
        "        seen[about[0]] = thread is threading.main_thread()\n"
        "sys.addaudithook(imports)\n"
        "from asynctrack import tracker\n"
        f"with tracker('runs', otlp={receiver.url!r}) as handler:\n"
        "    with handler.span('a'): pass\n"
        "assert 'requests' in seen and 'opentelemetry.sdk.trace' in seen, seen\n"
        "assert not any(seen.values()), seen\n"
    )
    for code in (without, with_it):
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_record_of_the_exporter_for_others_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What the program's own exporter logs is left alone."""
    from asynctrack._otlp import exporter

    exporter._hush()
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    logger.error("the program's own")
    assert "the program's own" in caplog.text
