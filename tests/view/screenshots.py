"""Pictures of each page, from the demo: ``python -m tests.view.screenshots [FOLDER]``.

They are what the README and the guide show; those of the guide's program lie beside the guide.
Times are in UTC, so that they look the same everywhere.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from selenium.webdriver import Chrome

from tests.guide.pages import GUIDE, run_langgraph
from tests.support.s3 import REGION, rclone_s3
from tests.view import demo
from tests.view.browser import chromium, resize, save
from tests.view.pages import Page
from tests.view.serving import viewer

FOLDER = Path(__file__).parent / "screenshots"
BUCKET = "acme-ml"
WIDTH = 1280
TRACES = ("pause", "resumed", "handoff", "recovered", "cancelled")
"""The traces of the guide's program, the first one first."""


def main(folder: Path = FOLDER) -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        prices = Path(scratch) / "prices.json"
        prices.write_text(json.dumps(demo.PRICES))
        buckets = Path(scratch) / "s3"
        demo.make(buckets / BUCKET)  # a bucket is a folder of the server's
        server = stack.enter_context(rclone_s3(buckets))
        environment = {
            "TZ": "UTC",
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": REGION,
        }
        os.environ["TZ"] = "UTC"  # the browser's
        options = ("--endpoint-url", server.endpoint_url, "--prices", str(prices), "--no-spool")
        with viewer(f"s3://{BUCKET}/", *options, env=environment) as served:
            for dark in (False, True):
                with chromium(WIDTH, 860, dark=dark) as driver:
                    _pages(driver, served.url, folder, "-dark" * dark)


def guide(folder: Path = GUIDE) -> None:
    """Write the pictures of the guide: how the traces of its program are shown."""
    with tempfile.TemporaryDirectory() as scratch:
        run_langgraph(Path(scratch))
        os.environ["TZ"] = "UTC"
        with (
            viewer(str(Path(scratch) / "runs"), "--no-spool") as served,
            chromium(1000, 600) as driver,
        ):
            page = Page(driver, served.url)
            page.shows(".runs td", "monday")
            page.ready()
            page.follow("monday")
            page.shows(".traces td", "refund")
            for number, name in enumerate(reversed(TRACES)):
                page.click(".traces td.name a", number=number)
                page.shows(".wf-row")
                page.settled()
                resize(driver, 1000, 520)
                save(driver, folder / f"langgraph-{name}.png")
                driver.back()
                page.shows(".traces td", "refund")


def _pages(driver: Chrome, url: str, folder: Path, suffix: str) -> None:
    page = Page(driver, url)

    def picture(name: str, height: int) -> None:
        page.settled()
        resize(driver, WIDTH, height)
        driver.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        )
        save(driver, folder / f"{name}{suffix}.png")

    page.shows(".runs .badge", "closed")
    page.ready()
    page.shows(".runs td", "claude-sonnet-4")
    picture("experiment", 560)
    page.follow("v4-tools")
    page.shows(".traces td", "answer_question")
    picture("run", 800)
    page.press("/", "webhooks")
    page.shows(".card h2", "matching")
    page.settled()
    page.click(".traces td.name a", number=1)
    page.shows(".side .message")
    page.click(".wf-row.kind-chat_model", number=len(page.all(".wf-row.kind-chat_model")) - 1)
    page.shows(".stream figcaption", "tokens streamed")
    picture("trace", 1080)
    page.go("")
    page.shows(".runs td", "claude-sonnet-4")
    for name in ("v1-baseline", "v2-short-prompt"):
        page.click(f'input[aria-label="compare {name}"]')
    page.follow("compare the two")
    page.shows(".pairs-table td")
    resize(driver, WIDTH, 1100)
    save(driver, folder / f"compare{suffix}.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
    guide(*map(Path, sys.argv[1:]))
