"""One Run as Parquet, JSON lines, CSV, OpenTelemetry and HTML: whole, typed, and harmless."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from asynctrack._common.markup import visible
from asynctrack._errors import OptionError
from asynctrack._reading.export import files, html, otlp, rows
from asynctrack._reading.export.cells import safe_cell
from asynctrack._reading.export.files import export_run, new_file
from asynctrack._reading.export.otlp_span import span_id_of, trace_id_of
from asynctrack._reading.run import RecordedRun, open_run
from asynctrack._reading.tables import span_table
from asynctrack._reading.trees import build
from tests.reading import pictures
from tests.reading.making import START, RunFolder, event

ROOT = "01a20c53-34cd-77a2-9538-ca78a07c8a0f"
MODEL = "01a20c53-34d3-70c6-a4fb-564d09c3fa05"
TOOL = "01a20c53-34d2-7504-84d9-29219ebe44d4"
HOSTILE = (
    "</script><script>alert(1)</script>",
    "</pre></details><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe\u2066\u200b",
    "=HYPERLINK(1)",
    "&lt;b&gt; &amp;",
    "\x00\x7f\x85\u2028",
)


@pytest.fixture
def run(folder: RunFolder) -> RecordedRun:
    """A trace with a model call, a failed tool and notes; one unfinished orphan; odd ids."""
    of = {"trace_id": ROOT, "parent_span_id": ROOT}
    message = {"content": "hello", "type": "human"}
    call = {"name": "calc", "args": {"x": 1}, "id": "c1", "type": "tool_call"}
    answer = {
        "content": [{"type": "text", "text": "hi"}], "type": "ai", "tool_calls": [call],
        "response_metadata": {"finish_reason": "stop"},
    }  # fmt: skip
    error = {"type": "builtins.ValueError", "message": "no <b>", "traceback": "f.py line 1"}
    spans: list[dict[str, Any]] = [
        {"kind": "chain_start", "span_id": ROOT, "trace_id": ROOT, "name": "seq",
         "inputs": {"a": "é"}, "tags": ["x", "y"], "metadata": {"m": 1}},
        {"kind": "chat_model_start", "span_id": MODEL, **of, "inputs": {"messages": [[message]]},
         "attributes": {"gen_ai.request.model": "gpt", "gen_ai.request.temperature": 0.5}},
        {"kind": "custom_event", "span_id": MODEL, **of, "name": "progress", "data": {"p": 1}},
        {"kind": "llm_end", "span_id": MODEL, **of,
         "outputs": {"generations": [[{"text": "hi", "message": answer}]]},
         "attributes": {"gen_ai.usage.input_tokens": 7,
                        "gen_ai.response.finish_reasons": ["stop"]}},
        {"kind": "tool_start", "span_id": TOOL, **of, "name": "calc", "inputs": {"x": 1}},
        {"kind": "tool_error", "span_id": TOOL, **of, "error": error},
        {"kind": "chain_end", "span_id": ROOT, "trace_id": ROOT, "outputs": HOSTILE[0]},
        {"kind": "chain_start", "span_id": "not a uuid", "trace_id": "t", "parent_span_id": "p"},
    ]  # fmt: skip
    folder.artifact([event(seq, **fields) for seq, fields in enumerate(spans, 1)])
    folder.manifest(parameters={"temperature": 0.1})
    return open_run(folder.path)


def hostile_run(folder: RunFolder) -> RecordedRun:
    """Every text of every span is hostile."""
    lines = []
    for number, text in enumerate(HOSTILE):
        fields: dict[str, Any] = {"span_id": f"{text}{number}", "trace_id": f"{text}{number}"}
        lines += [
            event(
                2 * number + 1, kind="chain_start", **fields, name=text, inputs={text: [text]},
                tags=[text], metadata={text: text}, attributes={"gen_ai.request.model": text},
            ),
            event(
                2 * number + 2, kind="chain_error", **fields,
                error={"type": text, "message": text, "traceback": text},
            ),
        ]  # fmt: skip
    folder.artifact(lines)
    folder.manifest(parameters={text: text for text in HOSTILE})
    return open_run(folder.path)


def exported(run: RecordedRun, format: str, **options: Any) -> bytes:  # noqa: A002  # its name
    """A Run in a format."""
    out = io.BytesIO()
    done = export_run(run, format, out, **options)
    assert done.bytes == len(out.getvalue())
    return out.getvalue()


def test_parquet_is_the_table_of_spans(run: RecordedRun) -> None:
    """The file holds what ``to_arrow`` gives, and the Run's names; events on request."""
    table = parquet.read_table(io.BytesIO(exported(run, "parquet")))
    expected = run.to_arrow()
    assert (
        table.select(expected.column_names).sort_by("span_id").to_pylist()
        == expected.sort_by("span_id").to_pylist()
    )
    assert table.column("run").to_pylist() == ["one"] * 4
    events = parquet.read_table(io.BytesIO(exported(run, "parquet", table="events")))
    assert events.column("seq").to_pylist() == list(range(1, 9))


def test_parquet_in_groups(run: RecordedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of rows become row groups of a size that engines like; every row is in one."""
    monkeypatch.setattr(span_table, "ROWS", 1)
    monkeypatch.setattr(rows, "GROUP_ROWS", 3)
    file = parquet.ParquetFile(io.BytesIO(exported(run, "parquet", table="events")))
    groups = file.metadata.num_row_groups
    assert [file.metadata.row_group(n).num_rows for n in range(groups)] == [3, 3, 2]
    assert file.read().column("seq").to_pylist() == list(range(1, 9))


def test_jsonl_is_what_was_stored(run: RecordedRun) -> None:
    """Events come as they were stored; spans as objects, payloads whole."""
    lines = [json.loads(line) for line in exported(run, "jsonl").splitlines()]
    assert lines == [one.raw for one in run.events()]
    assert len(exported(run, "jsonl", limit=3).splitlines()) == 3
    spans = [json.loads(line) for line in exported(run, "jsonl", table="spans").splitlines()]
    assert spans[0]["inputs"] == {"a": "é"}
    assert spans[0]["run"] == "one"


def test_csv_is_safe_and_whole(folder: RunFolder) -> None:
    """Every cell comes back from the file as it was, but for a sign before what would be run."""
    run = hostile_run(folder)
    rows = list(csv.DictReader(io.StringIO(exported(run, "csv").decode(), newline="")))
    assert len(rows) == len(HOSTILE)
    for row, text in zip(rows, HOSTILE, strict=True):
        assert row["name"] == safe_cell(text.replace("\0", "\\0"))
        assert row["error_message"] == row["model"] == row["name"]
        assert json.loads(row["inputs"]) == {text: [text]}
        assert not row["name"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert rows[0]["start"] == "2026-01-01 00:00:00.000001000"
    assert rows[5]["name"] == "'=HYPERLINK(1)"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1", "'=1"), (" =1", "' =1"), ("+1+2", "'+1+2"), ("@x", "'@x"), ("\t=1", "'\t=1"),
        ("-1", "-1"), ("+1.5e3", "+1.5e3"), ("-1_0", "'-1_0"), ("-inf", "'-inf"), ("-", "'-"),
        ("－1", "'－1"), ("|x", "'|x"), ("a=1", "a=1"), ("", ""),
    ],
)  # fmt: skip
def test_a_cell_that_a_spreadsheet_would_run(text: str, safe: str) -> None:
    """What begins like a formula gets a sign before it; numbers do not."""
    assert safe_cell(text) == safe


def parsed(line: bytes) -> Any:
    """A line of OTLP JSON as OpenTelemetry's own message; its ids are hex where protobuf's JSON
    has base64."""
    document = json.loads(line)
    for scope in document["resourceSpans"][0]["scopeSpans"]:
        for span in scope["spans"]:
            for name, size in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
                if name in span:
                    raw = bytes.fromhex(span[name])
                    assert len(raw) == size
                    assert any(raw)
                    span[name] = base64.b64encode(raw).decode()
    return json_format.Parse(json.dumps(document), ExportTraceServiceRequest())


def test_otlp_is_what_opentelemetry_reads(run: RecordedRun) -> None:
    """OpenTelemetry's own messages take it: ids, tree, times, status, events, GenAI attributes."""
    (line,) = exported(run, "otlp").splitlines()
    request = parsed(line)
    (resource,) = request.resource_spans
    names = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (names["service.name"], names["asynctrack.run"]) == ("jokes", "one")
    root, model, tool, orphan = resource.scope_spans[0].spans
    assert root.trace_id.hex() == ROOT.replace("-", "")
    assert root.span_id.hex() == ROOT.replace("-", "")[16:]
    assert root.parent_span_id == b""
    assert model.parent_span_id == tool.parent_span_id == root.span_id
    assert model.trace_id == tool.trace_id == root.trace_id
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (START + 1000, START + 7000)
    assert (root.name, model.name, tool.name) == ("seq", "chat gpt", "execute_tool calc")
    assert (root.kind, model.kind) == (1, 3)

    attributes = {one.key: one.value for one in model.attributes}
    assert attributes["gen_ai.operation.name"].string_value == "chat"
    assert attributes["gen_ai.request.temperature"].double_value == 0.5
    assert attributes["gen_ai.usage.input_tokens"].int_value == 7
    (reason,) = attributes["gen_ai.response.finish_reasons"].array_value.values
    assert reason.string_value == "stop"
    assert json.loads(attributes["gen_ai.input.messages"].string_value) == [
        {"role": "user", "parts": [{"type": "text", "content": "hello"}]}
    ]
    assert json.loads(attributes["gen_ai.output.messages"].string_value) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "hi"},
                {"type": "tool_call", "id": "c1", "name": "calc", "arguments": {"x": 1}},
            ],
            "finish_reason": "stop",
        }
    ]
    assert [(one.name, one.time_unix_nano) for one in model.events] == [("progress", START + 3000)]
    assert (root.status.code, tool.status.code, tool.status.message) == (0, 2, "no <b>")
    (exception,) = tool.events
    assert exception.name == "exception"
    assert {one.key: one.value.string_value for one in exception.attributes} == {
        "exception.type": "builtins.ValueError",
        "exception.message": "no <b>",
        "exception.stacktrace": "f.py line 1",
    }
    facts = {one.key: one.value for one in orphan.attributes}
    assert facts["asynctrack.outcome"].string_value == "unfinished"
    assert orphan.end_time_unix_nano == orphan.start_time_unix_nano == START + 8000
    assert len(orphan.parent_span_id) == 8


def test_otlp_tells_session_and_user(folder: RunFolder) -> None:
    """Every span of a trace has its session, user and conversation, those of its root; a trace
    that has none says nothing of them."""
    other = "0190d3a4-0000-7000-8000-0000000000aa"
    step = {"span_id": "0190d3a4-0000-7000-8000-0000000000ab", "parent_span_id": ROOT}
    ids = {"langfuse_session_id": "s", "ls_user_id": "u", "conversation_id": 7}
    folder.artifact(
        [
            event(1, kind="chain_start", span_id=ROOT, trace_id=ROOT, metadata=ids),
            event(2, kind="chain_start", trace_id=ROOT, **step),
            event(3, kind="chain_start", span_id=other, trace_id=other),
        ]
    )
    (line,) = exported(open_run(folder.path), "otlp").splitlines()
    names = ("session.id", "user.id", "gen_ai.conversation.id")
    found = [
        {one.key: one.value.string_value for one in span.attributes if one.key in names}
        for span in parsed(line).resource_spans[0].scope_spans[0].spans
    ]
    whole = dict(zip(names, ("s", "u", "7"), strict=True))
    assert found == [whole, whole, {}]


def test_otlp_lines_are_bounded(
    run: RecordedRun, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large Run is several requests, each whole by itself; an empty one is one without spans."""
    monkeypatch.setattr(otlp, "SPANS", 3)
    lines = exported(run, "otlp").splitlines()
    assert [len(parsed(one).resource_spans[0].scope_spans[0].spans) for one in lines] == [3, 1]
    monkeypatch.setattr(otlp, "LINE_BYTES", 100)
    assert len(exported(run, "otlp").splitlines()) == 4
    folder.run = "empty"
    folder.listed.clear()
    folder.manifest()
    (line,) = exported(open_run(folder.path), "otlp").splitlines()
    assert len(parsed(line).resource_spans[0].scope_spans[0].spans) == 0


def test_ids_are_those_of_the_uuids() -> None:
    """UUIDs give their own bytes; anything else, and zeros, a digest, the same each time."""
    assert trace_id_of(ROOT) == ROOT.replace("-", "")
    assert span_id_of(ROOT) == "9538ca78a07c8a0f"
    zero = "00000000-0000-0000-0000-000000000000"
    for odd in ("x", "", "</script>", zero):
        assert re.fullmatch("[0-9a-f]{32}", trace_id_of(odd))
        assert trace_id_of(odd).endswith(span_id_of(odd))
        assert int(span_id_of(odd), 16)
    assert span_id_of("x") != span_id_of("y")


class Page(HTMLParser):
    """Reads a page as a browser does: elements, attributes, and the text in them."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.policy = ""
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        found = dict(attrs)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> ends something else"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "h1", "p", "details", "summary", "table",
    "tr", "th", "td", "b", "span", "pre",
}  # fmt: skip


def test_html_shows_hostile_texts_as_text(folder: RunFolder) -> None:
    """Whatever was logged, the page has our elements only, and every text is in it to be read."""
    content = exported(hostile_run(folder), "html")
    page = Page(content)
    assert page.open == []
    assert set(page.elements) <= ELEMENTS
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "open"}
    for text in HOSTILE:
        assert page.text.count(visible(text)) >= 5, text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]",
                         content.decode())  # fmt: skip
    assert page.policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in page.policy
    assert b"http://" not in content
    assert b"https://" not in content


def test_images_are_text_in_pages_and_whole_in_data(folder: RunFolder) -> None:
    """A page says what an image is; what other programs read has all of it."""
    ids = {"span_id": "m", "trace_id": "m"}
    shapes = [*pictures.IMAGES.values(), *(value for value, _ in pictures.OTHERS.values())]
    asked = {"type": "human", "content": [{"type": "text", "text": "What is it?"}, *shapes]}
    folder.artifact(
        [
            event(1, kind="chat_model_start", **ids, inputs={"messages": [[asked]]}),
            event(2, kind="llm_end", **ids, outputs={"deep": pictures.IMAGES["openai"]}),
        ]
    )
    folder.manifest()
    data = pictures.encoded(pictures.PNG).encode()
    for format in ("jsonl", "csv", "otlp"):  # noqa: A001  # its name
        assert exported(open_run(folder.path), format).count(data) > 10, format
    table = parquet.read_table(io.BytesIO(exported(open_run(folder.path), "parquet")))
    assert data.decode() in table["outputs"][0].as_py()
    content = exported(open_run(folder.path), "html").decode()
    assert data.decode()[:40] not in content and "What is it?" in content
    assert content.count(pictures.WORDS) >= len(pictures.IMAGES)
    for _, words in pictures.OTHERS.values():
        assert words in content
    assert not {"img", "a"} & set(Page(exported(open_run(folder.path), "html")).elements)


def test_a_huge_name_is_cut_in_a_page(folder: RunFolder) -> None:
    """A name, a model or a tag of 100 KB takes no more room than a text does."""
    long = "x" * 100_000
    attributes = {"gen_ai.request.model": long}
    folder.artifact(
        [event(1, kind="chat_model_start", span_id="m", name=long, tags=[long],
               attributes=attributes)]
    )  # fmt: skip
    folder.manifest()
    assert len(exported(open_run(folder.path), "html")) < 50_000


def test_html_is_a_tree_to_be_opened(run: RecordedRun) -> None:
    """Spans are nested details with prompts, answers, errors, parameters and what is unfinished."""
    page = Page(exported(run, "html"))
    for text in (
        "jokes / one", "temperature", "chat_model · gpt", "input: user", "hello",
        "output: assistant", "assistant calls calc", "builtins.ValueError: no <b>", "f.py line 1",
        "unfinished", "its parent is not there", "2 traces, 4 spans, 1 of them failed",
    ):  # fmt: skip
        assert text in page.text, text
    cut_off = Page(exported(run, "html", limit=1))
    assert "The Run has more traces: the first 1 are here" in cut_off.text
    assert "1 traces, 3 spans" in cut_off.text


def test_html_says_what_it_cuts(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of 10 MB, spans without number and trees without end are cut with a note."""
    monkeypatch.setattr(html, "SPANS", 300)
    monkeypatch.setattr(html, "DEPTH", 10)
    big = "é<" * 5_000_000
    lines = [event(1, kind="chain_start", span_id="0", trace_id="0", inputs=big)]
    lines += [
        event(
            seq, kind="chain_start", span_id=str(seq), parent_span_id=str(seq - 1 if seq > 2 else 0)
        )
        for seq in range(2, 402)
    ]
    folder.artifact(lines)
    folder.manifest()
    content = exported(open_run(folder.path), "html")
    assert len(content) < 300_000
    page = Page(content)
    assert page.open == []
    assert "Cut: 10,000,000 characters, the first 20,000 are shown" in page.text
    assert "101 more spans of this trace are cut" in page.text
    assert "level 11" in page.text


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv", "otlp", "html"])
def test_memory_is_bounded(
    folder: RunFolder,
    format: str,  # noqa: A002  # its name
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Run of 60 MB is written with a fraction of that in memory."""
    monkeypatch.setattr(build, "LINGER_BYTES", 8_000_000)
    monkeypatch.setattr(span_table, "BATCH_CHARACTERS", 4_000_000)
    text = "word " * 20_000
    seq = 0
    for _ in range(20):
        lines = []
        for _ in range(30):
            seq += 1
            kind = "chain_start" if seq % 2 else "chain_end"
            span = str((seq + 1) // 2)
            lines.append(event(seq, kind=kind, span_id=span, trace_id=span, inputs=f"{seq}{text}"))
        folder.artifact(lines)
    folder.manifest()
    run = open_run(folder.path, concurrency=1)

    class Nowhere(io.RawIOBase):
        size = 0

        def write(self, content: Any) -> int:
            self.size += len(content)
            return len(content)

    out = Nowhere()
    tracemalloc.start()
    try:
        export_run(run, format, out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert out.size > 1_000_000 or format == "parquet"
    assert peak < 45_000_000, f"{peak:,}"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """Nothing is left of an export that failed; a file that is there is left alone."""
    path = tmp_path / "run.jsonl"
    with pytest.raises(RuntimeError), new_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    with pytest.raises(OptionError, match="--force"), new_file(path):
        pass
    with new_file(path, replace=True) as file:
        file.write(b"other")
    assert path.read_bytes() == b"other"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OptionError, match="folder that exists"), new_file(tmp_path / "no/x"):
        pass


def test_options_are_checked(run: RecordedRun) -> None:
    """A format, table or limit that is none is named with what is allowed."""
    for options, says in (
        ({"format": "xml"}, "one of parquet"),
        ({"format": "otlp", "table": "events"}, "spans for otlp"),
        ({"format": "csv", "limit": -1}, "0 or more"),
    ):
        with pytest.raises(OptionError, match=says):
            export_run(run, out=io.BytesIO(), **options)


def test_what_counts_lets_go_of_a_file_that_is_closed(tmp_path: Path) -> None:
    """After an error the file is closed first; what Python collects later says nothing of it."""
    with (tmp_path / "x").open("wb") as file:
        counter = files._Counter(file)
        counter.write(b"abc")
    counter.close()
    assert counter.bytes == 3
