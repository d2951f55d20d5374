"""A Run whose traces were sampled, in the browser."""

from __future__ import annotations

from pathlib import Path

from langchain_core.runnables import RunnableLambda
from selenium.webdriver import Chrome

from asynctrack import tracker
from tests.view.pages import Page
from tests.view.serving import viewer


def test_it_says_what_part_is_there(browser: Chrome, tmp_path: Path) -> None:
    """In the list and on its page; a Run with all its traces says nothing."""
    for name, sample in (("whole", 1.0), ("part", 0.5)):
        with tracker(tmp_path, experiment_name="e", run_name=name, sample=sample) as handler:
            RunnableLambda(str.upper).batch(["x"] * 20, {"callbacks": [handler]})
    said = f"{20 - handler.statistics().traces_sampled_out} of 20 traces kept"
    with viewer(tmp_path, "--no-spool") as served:
        page = Page(browser, served.url)
        page.shows(".runs .sampled", said)
        page.shows(".runs td", "whole")
        page.ready()
        assert page.texts(".runs .sampled") == [said]
        page.follow("part")
        page.shows(".bar.title .sampled", said)
        (title,) = page.attributes(".bar.title .sampled", "title")
        assert title.startswith(f"{said} (sample=0.5)")
