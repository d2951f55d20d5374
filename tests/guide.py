"""The guide's page on LangGraph, and its program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import asynctrack

GUIDE = Path(asynctrack.__file__).parent / "guide"
PAGE = (GUIDE / "langgraph.md").read_text()


def run_program(folder: Path) -> None:
    """Run the page's program in a process of its own; it tracks into the folder's ``runs``."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (folder / "program.py").write_text(program)
    subprocess.run([sys.executable, "program.py"], cwd=folder, check=True, timeout=120)
