"""The drop-in for the old handler: its name, its calls, its life."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
from langchain_core.callbacks.base import BaseCallbackHandler
from langchain_core.language_models import FakeListLLM

from asynctrack import OptionError, RunError
from asynctrack.compat import SageMakerCallbackHandler
from tests.e2e.chains import CHAIN_EVENTS, joke_chain
from tests.support.auditor import assert_exactly_once, audit_folder, events_in_folder


def test_the_notebooks_way(tmp_path: Path) -> None:
    """Made, given to a chain, flushed: everything is delivered, and more may follow."""
    handler = SageMakerCallbackHandler(tmp_path)
    assert isinstance(handler, BaseCallbackHandler)
    assert handler.run == tmp_path
    joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
    flush = handler.flush_tracker()
    assert flush.done()
    assert flush.result() is True
    assert_exactly_once(audit_folder(tmp_path), CHAIN_EVENTS)
    joke_chain().invoke({"topic": "x"}, {"callbacks": [handler]})
    handler.flush_tracker()
    handler.close()
    assert_exactly_once(audit_folder(tmp_path), 2 * CHAIN_EVENTS)
    assert handler.statistics().delivered == 2 * CHAIN_EVENTS
    handler.close()  # the second time does nothing


def test_the_generated_text_is_stored(tmp_path: Path) -> None:
    """What the old handler never stored: the prompt and the text a model generated for it."""
    handler = SageMakerCallbackHandler(tmp_path)
    FakeListLLM(responses=["the answer"]).invoke("the question", {"callbacks": [handler]})
    handler.flush_tracker()
    handler.close()
    start, end = events_in_folder(tmp_path)
    assert start["inputs"] == {"prompts": ["the question"]}
    assert end["outputs"]["generations"][0][0]["text"] == "the answer"


def test_the_notebooks_chains(tmp_path: Path) -> None:
    """The old style of chains, through langchain-classic, in the constructor's callbacks."""
    # They are deprecated and say so, which is why there is a compat handler.
    with warnings.catch_warnings(record=True):
        from langchain_classic.chains import LLMChain, SimpleSequentialChain
        from langchain_core.prompts import PromptTemplate

        handler = SageMakerCallbackHandler(tmp_path)
        llm = FakeListLLM(responses=["a play", "a review"], callbacks=[handler])
        first = LLMChain(
            llm=llm, prompt=PromptTemplate.from_template("play: {title}"), callbacks=[handler]
        )
        second = LLMChain(
            llm=llm, prompt=PromptTemplate.from_template("review: {play}"), callbacks=[handler]
        )
        both = SimpleSequentialChain(chains=[first, second], callbacks=[handler])
        assert both.run("Tragedy at sunset") == "a review"
    handler.flush_tracker()
    handler.close()
    assert_exactly_once(audit_folder(tmp_path), handler.statistics().accepted)
    texts = [
        event["outputs"]["generations"][0][0]["text"]
        for event in events_in_folder(tmp_path)
        if event["event"] == "llm_end"
    ]
    assert texts == ["a play", "a review"]


def test_options_and_errors(tmp_path: Path) -> None:
    """Options are those of tracker(), and what is wrong is said when it is made."""
    with pytest.raises(OptionError, match="compression"):
        SageMakerCallbackHandler(tmp_path, compression="zip")
    with pytest.raises(RunError):
        SageMakerCallbackHandler(object())


def test_it_ends_with_the_interpreter(tmp_path: Path) -> None:
    """Never closed, as in a notebook: everything is delivered, and no warning complains."""
    code = f"""
        import uuid
        from asynctrack.compat import SageMakerCallbackHandler
        handler = SageMakerCallbackHandler({str(tmp_path / "out")!r})
        for number in range(10):
            handler.on_chain_end(number, run_id=uuid.uuid4())
    """
    child = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (child.returncode, child.stderr) == (0, "")
    assert len(events_in_folder(tmp_path / "out")) == 10
