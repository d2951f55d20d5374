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
WIDE, PHONE = 1440, 390
PAGES = {
    "experiment": (".runs td", "claude-sonnet-4", 560, 844),
    "run": (".components td", "look_up_order", 1000, 1600),
    "sessions": (".sessions td", "chat-", 720, 844),
    "conversation": (".turn .answered", "", 720, 844),
    "trace": (".stream figcaption", "tokens streamed", 1080, 1800),
    "compare": (".pairs-table td", "", 1100, 1400),
}
"""What is there when a page is, with what text; how high its picture is, wide and on a phone."""
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
            with chromium(WIDE, 860) as driver:
                addresses = _addresses(driver, served.url)
            for dark in (False, True):
                for width, kind in ((WIDE, ""), (PHONE, "-phone")):
                    with chromium(width, 860, dark=dark) as driver:
                        page = Page(driver, served.url)
                        page.ready()
                        for name, address in addresses.items():
                            picture = folder / f"{name}{kind}{'-dark' * dark}.png"
                            _picture(page, name, address, width, picture)


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


def _addresses(driver: Chrome, url: str) -> dict[str, str]:
    """Walk through the pages, as somebody does who looks for something; return where each is."""
    page = Page(driver, url)
    found: dict[str, str] = {}

    def reached(name: str) -> None:
        there, text, *_ = PAGES[name]
        page.shows(there, text)
        page.settled()
        found[name] = page.hash.removeprefix("#/")

    page.shows(".runs .badge", "closed")
    page.ready()
    reached("experiment")
    page.follow("v4-tools")
    reached("run")
    page.follow("sessions")
    reached("sessions")
    page.follow("chat-0070")  # of three turns, one of which failed
    reached("conversation")
    page.go(found["run"])
    page.shows(".traces td", "answer_question")
    page.press("/", "webhooks")
    page.shows(".card h2", "matching")
    page.settled()
    page.click(".traces td.name a", number=1)
    page.shows(".side .message")
    page.click(".wf-row.kind-chat_model", number=len(page.all(".wf-row.kind-chat_model")) - 1)
    reached("trace")
    page.go("")
    page.shows(".runs td", "claude-sonnet-4")
    for name in ("v1-baseline", "v2-short-prompt"):
        page.click(f'input[aria-label="compare {name}"]')
    page.follow("compare the two")
    reached("compare")
    return found


def _picture(page: Page, name: str, address: str, width: int, path: Path) -> None:
    there, text, *heights = PAGES[name]
    page.go(address)
    page.shows(there, text)
    page.settled()
    resize(page.driver, width, heights[width == PHONE])
    page.settled()
    drawn = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
    page.driver.execute_async_script(drawn)
    save(page.driver, path)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
    guide(*map(Path, sys.argv[1:]))
