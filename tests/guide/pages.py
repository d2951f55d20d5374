"""The pages that users and contributors read, and the blocks of code in them.

A comment stands before a block, alone or with others, and says what a test has to know:
``<!-- name: X -->`` what tests call it; ``<!-- aws -->`` that it needs a Run, or S3;
``<!-- otlp -->`` that it needs a receiver of OpenTelemetry's at ``localhost:4318``;
``<!-- not run: WHY -->`` that no test can run it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asynctrack

GUIDE = Path(asynctrack.__file__).parent / "guide"
ROOT = GUIDE.parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (
        ROOT / "README.md", *sorted(GUIDE.glob("*.md")), ROOT / "benchmarks/README.md",
        ROOT / "tests/README.md",
    )
}  # fmt: skip
_FENCE = re.compile(r"((?:<!--.*?-->\n?)*)^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- ([\w -]+?)(?:: (.*?))? -->")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: The page's path in the repository.
        language: What stands behind the fence.
        code: What is in it.
        line: The page's line on which the code begins, from 1.
        marks: What the comments before it say.
    """

    page: str
    language: str
    code: str
    line: int
    marks: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text(page: str) -> str:
    """Return a page, by its path in the repository or by its topic."""
    return (PAGES.get(page) or GUIDE / f"{page}.md").read_text(encoding="utf-8")


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    whole = text(page)
    for found in _FENCE.finditer(whole):
        line = whole.count("\n", 0, found.start(3)) + 1
        yield Block(page, found[2], found[3], line, dict(_MARK.findall(found[1])))


def block(page: str, name: str) -> str:
    """Return the code that a page has behind ``<!-- name: X -->``."""
    (found,) = (one for one in blocks(page) if one.marks.get("name") == name)
    return found.code


def run_langgraph(folder: Path) -> None:
    """Run the program of the page on LangGraph in a process of its own; it tracks into the folder's
    ``runs``."""
    (program,) = (one.code for one in blocks("langgraph") if one.language == "python")
    (folder / "program.py").write_text(program)
    subprocess.run([sys.executable, "program.py"], cwd=folder, check=True, timeout=120)
