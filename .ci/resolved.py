"""Prints a line of what pip has found: ``python .ci/resolved.py EXTRAS REPORT SECONDS``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

SHOWN = ("boto3", "aiobotocore", "sagemaker", "sagemaker-core", "langchain-core", "langchain-aws")

if __name__ == "__main__":
    extras, report, seconds = sys.argv[1:]
    installed = [one["metadata"] for one in json.loads(Path(report).read_text())["install"]]
    found = {one["name"]: one["version"] for one in installed}
    versions = ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found)
    print(f"[{extras}] {len(found)} packages, {seconds} s: {versions}")
