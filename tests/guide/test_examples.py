"""Every example in Python runs, page by page, as a reader would run it."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from asynctrack import tracker
from asynctrack.demo._sagemaker import sagemaker_sdk
from tests.e2e.chains import joke_chain
from tests.e2e.runs import RunFactory
from tests.guide.pages import PAGES, Block, blocks
from tests.support.otlp import otlp_receiver
from tests.support.s3 import S3Server

_PER_SDK = re.compile(r"from \S+ import (\w+) +# sagemaker 3: \S+")


def examples(page: str) -> list[Block]:
    """The blocks of a page that are to run."""
    return [one for one in blocks(page) if one.language == "python" and "not run" not in one.marks]


WITH_AWS = [page for page in PAGES if any("aws" in one.marks for one in examples(page))]
WITHOUT = [page for page in PAGES if page not in WITH_AWS and examples(page)]


def for_this_sdk(code: str) -> str:
    """Return code that imports from where its comments say that this SDK has it."""

    def imported(line: re.Match[str]) -> str:
        module = getattr(sagemaker_sdk(), line[1]).__module__
        assert module in line[0].split(), f"{line[1]} is in {module}: {line[0]}"
        return f"from {module} import {line[1]}"

    return _PER_SDK.sub(imported, code)


def run_page(page: str, names: dict[str, Any], places: Mapping[str, str]) -> None:
    """Run a page's examples in order, in one namespace and one event loop.

    Args:
        page: The page.
        names: What its reader has already.
        places: Addresses of the page, and what they are here.
    """
    loop = asyncio.new_event_loop()
    try:
        for one in examples(page):
            code = for_this_sdk(one.code) if "aws" in one.marks else one.code
            for there, here in places.items():
                code = code.replace(there, here)
            # Tracebacks tell the line of the page.
            made = compile(
                "\n" * (one.line - 1) + code, PAGES[page], "exec",
                ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True,
            )  # fmt: skip
            result = eval(made, names)
            if made.co_flags & inspect.CO_COROUTINE:
                loop.run_until_complete(result)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a reader has: a chain, and a Run in the folder ``runs``."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    chain = joke_chain()
    with tracker("runs", experiment_name="jokes", run_name="monday") as handler:
        chain.batch([{"topic": "fish"}, {"topic": "cats"}], {"callbacks": [handler]})
        handler.log_metric("score", 0.5)
    yield {"__name__": "__main__", "chain": chain}


@pytest.mark.parametrize("page", WITHOUT)
def test_examples_run(page: str, reader: dict[str, Any]) -> None:
    """In order, in one namespace; what is asynchronous never blocks the event loop."""
    # Asking for the working directory counts as blocking.
    places = {'"runs"': repr(str(Path("runs").absolute()))}
    if not any("otlp" in one.marks for one in examples(page)):
        run_page(page, reader, places)
        return
    with otlp_receiver() as receiver:
        run_page(page, reader, {**places, "http://localhost:4318/v1/traces": receiver.url})
        assert receiver.spans(), "what the page sends arrives"


@pytest.mark.may_block("the SDK's Run asks AWS in the loop in which it is entered")
@pytest.mark.parametrize("page", WITH_AWS)
def test_examples_with_aws_run(
    page: str, reader: dict[str, Any], make_run: RunFactory, users_s3: S3Server
) -> None:
    """The same against a real S3 server and the embedded SageMaker."""
    site = make_run("scenario-1", experiment="jokes")
    with tracker(site.run) as handler:
        reader["chain"].invoke({"topic": "fish"}, {"callbacks": [handler]})
    site.leave()  # the SDK allows one Run at a time
    session = site.run._artifact_uploader.sagemaker_session
    prefix = f"s3://{users_s3.bucket}/{site.prefix.partition('/asynctrack/')[0]}"
    (key,) = (users_s3.folder / site.prefix).glob("dt=*/*.jsonl.zst")
    places = {
        "s3://bucket/prefix/events.jsonl.zst": f"s3://{key.relative_to(users_s3.root)}",
        "s3://bucket/prefix": prefix,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK's own, and s3fs'
        run_page(page, {**reader, "run": site.run, "session": session}, places)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_here_runs_elsewhere(page: str) -> None:
    """The comment before it says why and where, and a test asks for it by its name."""
    for one in blocks(page):
        if "not run" not in one.marks:
            continue
        assert one.marks["not run"], one
        name = one.marks.get("name")
        asked = (f'block("{Path(page).stem}", "{name}")', f'read("{name}"')
        assert any(word in code for word in asked for code in _tests()), one


@cache
def _tests() -> list[str]:
    """The code of all other tests."""
    folder = Path(__file__).parents[1]
    return [path.read_text() for path in folder.rglob("test_*.py") if path != Path(__file__)]
