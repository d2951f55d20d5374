"""A run in which everything that can be logged is an attack on whoever looks at it."""

# ruff: noqa: E501  # attacks are not laid out

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.reading.making import START, RunFolder, event

SCRIPT = "<script>window.pwned='script'</script>"
IMAGE = "<img src=x onerror=\"window.pwned='image'\">"
CLOSING = "</script></style></textarea></title><svg onload=\"window.pwned='svg'\">"
LINK = "[click](javascript:window.pwned='link') <a href=\"javascript:window.pwned='a'\">x</a>"
STYLE = "<style>body{display:none}</style><link rel=stylesheet href=http://evil.invalid/x.css>"
TERMINAL = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J bell\x07 back\x08 null\x00"
BIDI = "invoice\u202egpj.exe \u2066hidden\u2069 \u200fmark\u061c"
INVISIBLE = (
    "pay\u200bpal \ufeffzero\u2060width \u00adsoft \U000e0041\U000e0042tags fill\u3164\u2800er"
    " \u2028line"
)
TEMPLATE = "${window.pwned='template'} {{constructor.constructor('window.pwned=1')()}} `"
SQL = "'; DROP TABLE traces; -- \" $run"
CODE = '"""); import os; os.system("touch /tmp/pwned") #\n\'\'\'\\'
ALL = {
    "script": SCRIPT, "image": IMAGE, "closing": CLOSING, "link": LINK, "style": STYLE,
    "terminal": TERMINAL, "bidi": BIDI, "invisible": INVISIBLE, "template": TEMPLATE, "sql": SQL,
    "code": CODE,
}  # fmt: skip
MARKDOWN = {
    "links": "[x](javascript:window.pwned=1) [y]( http://evil.invalid/ 'title') <http://evil.invalid> [z][1]\n\n[1]: javascript:window.pwned=2",
    "images": '![x](http://evil.invalid/x.png) ![a](x" onerror="window.pwned=3) [![b](http://evil.invalid/b)](javascript:0)',
    "blocks": "# <script>window.pwned=4</script>\n\n> <img src=x onerror=window.pwned=5>\n\n- <svg onload=window.pwned=6>\n\n```\n</code></pre><script>window.pwned=7</script>\n```",
    "tables": "| <a href=javascript:window.pwned=8>x</a> | b |\n|---|---|\n| ![x](http://evil.invalid/) | <iframe src=http://evil.invalid> |",
    "inline": "**<b onmouseover=window.pwned=9>** `<img src=x onerror=window.pwned=10>` _\u202eevil_ &#106;avascript: &lt;script&gt;",
}
"""The same for what is shown as Markdown."""
STRING = '{"__proto__": {"polluted": true}, "script": "<script>window.pwned=1</script>", "inner": "[\\"<img src=x onerror=window.pwned=2>\\u202e\\"]", "constructor": {"prototype": 1}}'
"""A string that is JSON."""
SESSION = f'" OR 1=1 {BIDI} {SCRIPT}'
FEEDBACK: list[dict[str, Any]] = [
    {"name": SCRIPT, "data": {"score": 1, "comment": IMAGE, "user_id": CLOSING}},
    {"name": BIDI, "data": {"value": CLOSING, "comment": LINK, "span_id": SCRIPT}},
    {"name": "__proto__", "data": {}},
]
EVERYTHING = " ".join(ALL.values())
LONG = "long " * 2_000_000 + "<b>the end</b>\u202e"
"""Ten million characters."""
RUN = "<img src=x onerror=window.pwned='run'>"
EXPERIMENT = "<svg onload=window.pwned='experiment'>\u202e"


def make(root: Path) -> None:
    """Write the run, and a copy of it to compare it with."""
    for run in (RUN, "plain"):
        folder = RunFolder(root, EXPERIMENT, run)
        folder.artifact(_events(run))
        folder.manifest(
            parameters={EVERYTHING: EVERYTHING, "__proto__": {"polluted": True}, "differs": run},
            metrics={EVERYTHING: {"count": 1, "sum": 1, "min": 1, "max": 1, "last": 1}},
        )


def _events(run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def add(kind: str, span: str, parent: str | None = None, **fields: Any) -> None:
        ids = {"span_id": span, "trace_id": span if span in ("deep", "asked") else "t-" + CLOSING}
        if parent is not None:
            ids["parent_span_id"] = parent
        at = START + len(found) * 10**8
        found.append(event(len(found) + 1, kind=kind, time=at, **ids, **fields))

    root, model, tool = "t-" + CLOSING, SCRIPT, BIDI
    messages = [
        *({"content": text, "type": "human", "name": text} for text in ALL.values()),
        *({"content": text, "type": "human"} for text in MARKDOWN.values()),
        {"content": STRING, "type": "tool", "name": IMAGE, "tool_call_id": SCRIPT},
        {"content": [{"type": "text", "text": IMAGE}, {"type": CLOSING, "x": SCRIPT}], "type": "ai",
         "tool_calls": [{"name": IMAGE, "args": {SCRIPT: TERMINAL}, "id": CLOSING}]},
        {"content": "x", "type": "constructor", "role": "__proto__"},
    ]  # fmt: skip
    add("chain_start", root, name=EVERYTHING, tags=list(ALL.values()), metadata={EVERYTHING: EVERYTHING, "session_id": SESSION, "user_id": EVERYTHING},
        inputs={**ALL, "__proto__": {"polluted": True}, "constructor": IMAGE, "key\n" + EVERYTHING: 1},
        data={"run_type": CLOSING})  # fmt: skip
    add("chat_model_start", model, root, name=IMAGE, inputs={"messages": [messages]},
        attributes={"gen_ai.request.model": SCRIPT, EVERYTHING: EVERYTHING})  # fmt: skip
    add("llm_end", model, root, outputs={"generations": [[{"text": LONG, "message": {"content": LONG, "type": "ai"}}]]},
        attributes={"gen_ai.usage.input_tokens": 2**60},
        data={"stream": {"text": IMAGE, "count": 3, "time_to_first_token": 0.01, "inter_token_times": [0.01, "x", -1, 0.02]}})  # fmt: skip
    add("tool_start", tool, root, name=BIDI, inputs=EVERYTHING)
    error = {"type": f"a.{SCRIPT}", "message": EVERYTHING, "traceback": f'  File "{IMAGE}", line 1, in {TERMINAL}',
             "causes": [{"type": CLOSING, "message": LINK, "traceback": BIDI}, 7], "exceptions": SCRIPT}  # fmt: skip
    add("tool_error", tool, root, error=error)
    deep: Any = SCRIPT
    for _ in range(500):
        deep = [deep]
    add("chain_error", root, error=error, outputs=deep)
    for one in FEEDBACK:
        add("feedback", root, **one)
        del found[-1]["span_id"]
    add("chain_start", "deep", name="deep", inputs=deep)
    add(
        "chain_end",
        "deep",
        outputs={
            "output": f"{EVERYTHING} {run}",
            "deep": deep,
            "none": None,
            "number": 12345678901234567890,
        },
    )
    add("chain_start", "asked", name=IMAGE, inputs={"question": EVERYTHING})
    add("chain_end", "asked", outputs=f"{EVERYTHING} {MARKDOWN} {run}")  # not the same in both Runs
    return found
