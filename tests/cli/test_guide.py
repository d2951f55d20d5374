"""``asynctrack guide``: the documentation, on the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from asynctrack.cli._guide import topics
from asynctrack.cli._markdown import readable
from tests.cli.conftest import Command
from tests.cli.test_main import CLI, read_terminal
from tests.guide.pages import text

pytestmark = pytest.mark.may_block("no event loop in here")


def test_topics_are_listed_with_a_line_each(command: Command) -> None:
    """In the order in which one reads them, and below their headings."""
    printed = command("guide")
    assert printed.code == 0 and printed.err == ""
    listed = re.findall(r"^  ([\w-]+) +\S.*$", printed.out, re.MULTILINE)
    assert listed == list(topics()) and "tracking" in listed
    assert max(map(len, printed.out.splitlines()[:-1])) <= 100
    assert "\nRead\n" in printed.out


@pytest.mark.parametrize("topic", topics())
def test_a_topic_is_printed_as_text(
    topic: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No marks of Markdown, no HTML, and no line of prose that is wider than the terminal."""
    monkeypatch.setenv("COLUMNS", "72")
    printed = command("guide", topic)
    assert printed.code == 0 and printed.err == ""
    lines = printed.out.splitlines()
    assert set(lines[1]) == {"="}
    prose = [line for line in lines if not line.startswith("    ")]
    long = [line for line in prose if len(line) > 72 and not _cannot_be_broken(line, 72)]
    assert long == []
    outside = re.sub(r"`[^`]*`", "", "\n".join(prose))
    assert not re.search(r"<!--|```|\]\(|\*\*|^#|^\|", outside, re.MULTILINE)


def _cannot_be_broken(line: str, width: int) -> bool:
    return max(map(len, re.findall(r"`[^`]*`\S*|\S+", line))) > width - 45


def test_code_keeps_its_lines(command: Command) -> None:
    """As it is in the page, four blanks in: to be copied."""
    out = command("guide", "tracking").out
    assert '\n    async with tracker("runs", experiment_name="jokes"' in out
    assert '\n        await chain.ainvoke({"topic": "fish"}' in out


def test_a_wrong_topic_suggests_the_nearest(command: Command) -> None:
    """Exit code 2; where nothing is near, only the list."""
    near = command("guide", "limit")
    assert (near.code, near.out) == (2, "")
    assert "'limit': did you mean 'limits'?" in near.err
    far = command("guide", "zzz")
    assert far.code == 2 and "did you mean" not in far.err and "asynctrack guide" in far.err
    assert command("guide", "../README").code == 2


def test_a_file_name_is_a_topic_too(command: Command) -> None:
    """As links say it, in any case."""
    assert command("guide", "Limits.md").out == command("guide", "limits").out


def test_a_terminal_gets_a_pager() -> None:
    """The one of the user's own, for what is longer than the screen; a pipe gets none."""
    import pty

    pager = f"{sys.executable} -c 'import sys; print(len(sys.stdin.read()) // 1000, chr(107))'"
    shown = {}
    for topic in ("limits", None):
        terminal, tty = pty.openpty()
        process = subprocess.Popen(
            [*CLI, "guide", *filter(None, [topic])], stdin=tty, stdout=tty, stderr=tty,
            env={**os.environ, "TERM": "xterm", "PAGER": pager, "COLUMNS": "80", "LINES": "24"},
        )  # fmt: skip
        os.close(tty)
        shown[topic] = read_terminal(terminal).decode()
        assert process.wait(timeout=240) == 0
    assert re.fullmatch(r"\d+ k", shown["limits"].strip())
    assert "asynctrack guide TOPIC" in shown[None]
    piped = subprocess.run(
        [*CLI, "guide", "limits"], capture_output=True, text=True, check=True,
        env={**os.environ, "PAGER": pager},
    )  # fmt: skip
    assert piped.stdout.startswith("Limits\n======\n")


MARKDOWN = """\
# A *title*

<!-- name: x -->
```python
x  =  1   # [kept](as-it-is)
```

Words with `**code**`, **bold**, a [page](limits.md#x), [here](#there), [a `name`](../../x/y.py) and
<https://example.com>, in 2 * 3 * 4 ways.

- one
  and more
- two

1. first
2. second

| a | b |
|---|--:|
| `x|y` | 1 |

![What it shows](x.png)
"""

TEXT = """\
A title
=======

    x  =  1   # [kept](as-it-is)

Words with `**code**`, bold, a page (asynctrack guide limits), here, a `name`
(x/y.py in the repository) and <https://example.com>, in 2 * 3 * 4 ways.

- one and more
- two

1. first
2. second

a      b
`x|y`  1

[picture: What it shows]"""


def test_marks_become_what_they_mean() -> None:
    """Headings, links, pictures, lists and tables."""
    assert readable(MARKDOWN, 80) == TEXT


def test_a_table_that_is_too_wide_is_a_list() -> None:
    """Each row below its first cell; a cell says its column where there are several."""
    table = "| name | kind | what |\n|---|---|---|\n| `a` | b | " + "word " * 20 + "|\n"
    assert readable(table, 40) == (
        "`a`\n    kind: b\n    what: word word word word word word\n"
        "    word word word word word word word\n    word word word word word word word"
    )


def test_the_guide_reads_no_network_and_needs_no_extra() -> None:
    """It works in a plain install: neither rich nor anything of AWS's is asked for."""
    hide = "import sys; sys.modules.update(rich=None, boto3=None, pandas=None, duckdb=None); "
    code = f"{hide}from asynctrack.cli import main; sys.exit(main(['guide', 'install']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert text("install").splitlines()[0].removeprefix("# ") in done.stdout
