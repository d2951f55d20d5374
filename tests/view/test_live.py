"""A run that is being written, seen in the browser: from the folder, from the spool, from S3."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from selenium.webdriver import Chrome

from asynctrack import tracker
from tests.reading.making import RunFolder, event
from tests.support.s3 import REGION, S3Server
from tests.view.pages import Page
from tests.view.serving import viewer


def chain(answer: str) -> Any:
    """A chain whose model gives one answer."""
    model = GenericFakeChatModel(messages=iter([AIMessage(answer)]))
    return ChatPromptTemplate.from_template("Say {word}") | model | StrOutputParser()


def open_live(page: Page) -> None:
    """Open the only run, while it is being written."""
    page.shows(".runs .badge", "live")
    page.click(".runs td.name a")
    page.shows(".traces td")


def test_traces_appear_by_themselves(browser: Chrome, tmp_path: Path) -> None:
    """What is delivered while a page is open comes onto it, on top of the first page; what runs
    is marked until it has ended, and the run is closed when its tracker is."""
    with ExitStack() as viewing:
        with tracker(tmp_path, experiment_name="e", run_name="r", max_delay=0.1) as handler:
            chain("first answer").invoke({"word": "one"}, config={"callbacks": [handler]})
            handler.flush()
            page = Page(browser, viewing.enter_context(viewer(tmp_path, "--no-spool")).url)
            open_live(page)
            page.shows(".preview", "first answer")
            chain("second answer").invoke({"word": "two"}, config={"callbacks": [handler]})
            page.wait(lambda: "second answer" in page.first(".traces .preview div"), "on top")
            page.shows(".tile", "traces\n2")

            def slow(_: Any) -> str:
                handler.flush()
                page.wait(lambda: len(page.all(".status.unfinished")) == 1, "it runs")
                page.click(".traces td.name a", number=0)
                page.shows(".wf-row.unfinished", "slow")
                page.driver.back()
                page.shows(".traces td")
                return "third answer"

            step = RunnableLambda(slow).with_config(run_name="slow")
            step.invoke("three", config={"callbacks": [handler]})
            page.shows(".preview", "third answer")
            page.wait(lambda: not page.all(".status.unfinished"), "it has ended")
        page.shows(".title .badge", "closed")
        assert len(page.all(".traces tbody tr")) == 3


def test_spooled_events_are_seen_and_marked(
    browser: Chrome, tmp_path: Path, state_home: Path
) -> None:
    """Events that only this machine's spool has are shown and marked, until they are delivered."""
    with tracker(tmp_path / "runs", experiment_name="e", run_name="r", max_delay=3600) as handler:
        chain("waiting answer").invoke({"word": "one"}, config={"callbacks": [handler]})
        environment = {"XDG_STATE_HOME": str(state_home)}
        with viewer(tmp_path / "runs", env=environment) as served:
            page = Page(browser, served.url)
            open_live(page)
            page.shows(".preview", "waiting answer")
            page.shows(".traces .badge", "spool")
            assert "8 events are in this machine's spool" in page.text()
            handler.flush()
            page.wait(lambda: not page.all(".traces .badge"), "delivered")
            assert "waiting answer" in page.first(".traces .preview div")
            assert not page.all(".badge.spool")


def test_from_s3(browser: Chrome, tmp_path: Path, s3: S3Server) -> None:
    """A run in S3 is shown as one in a folder is, live, by its address or one above."""
    folder = RunFolder(s3.folder)
    add: Callable[[int, str], Path] = lambda seq, text: folder.artifact(  # noqa: E731
        [event(seq, kind="chain_start", span_id=f"s{seq}", name=text, inputs=text),
         event(seq + 1, kind="chain_end", span_id=f"s{seq}", outputs="done")]
    )  # fmt: skip
    add(1, "first")
    folder.manifest(state="open", updated_unix_nano=2**62)
    environment = {
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_REGION": REGION,
    }
    options = ("--endpoint-url", s3.endpoint_url, "--no-spool")
    with viewer(f"s3://{s3.bucket}/", *options, env=environment) as served:
        page = Page(browser, served.url)
        open_live(page)
        page.shows(".preview", "first")
        client = s3.boto_client()
        path = add(3, "second")
        content = path.read_bytes()
        path.unlink()
        key = path.relative_to(s3.folder).as_posix()
        client.put_object(Bucket=s3.bucket, Key=key, Body=content)
        page.shows(".preview", "second")
        assert f"s3://{s3.bucket}/" in page.text()
        page.click(".traces td.name a", "second")
        page.shows(".side", "done")
