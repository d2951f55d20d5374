"""Pictures of each page, from the demo: ``python -m tests.view.screenshots [FOLDER]``.

They are what the README shows. Times are in UTC, so that they look the same everywhere.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.s3 import REGION, rclone_s3
from tests.view import demo
from tests.view.browser import chromium, resize, save
from tests.view.serving import viewer

FOLDER = Path(__file__).parent / "screenshots"
BUCKET = "acme-ml"
WIDTH = 1280


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


def _pages(driver: Chrome, url: str, folder: Path, suffix: str) -> None:
    def shown(selector: str, text: str = "") -> None:
        WebDriverWait(driver, 30).until(
            lambda _: any(
                text in one.text for one in driver.find_elements(By.CSS_SELECTOR, selector)
            )
        )

    def picture(name: str, height: int) -> None:
        resize(driver, WIDTH, height)
        driver.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        )
        save(driver, folder / f"{name}{suffix}.png")

    driver.get(url)
    shown(".runs .badge", "closed")
    WebDriverWait(driver, 30).until(
        lambda _: not driver.find_elements(By.CSS_SELECTOR, ".progress")
    )
    shown(".runs td", "claude-sonnet-4")
    picture("experiment", 560)
    driver.find_element(By.LINK_TEXT, "v4-tools").click()
    shown(".traces td", "answer_question")
    picture("run", 800)
    search = driver.find_element(By.CSS_SELECTOR, "input[type=search]")
    search.send_keys("webhooks")
    shown(".card h2", "matching")
    driver.find_elements(By.CSS_SELECTOR, ".traces td.name a")[1].click()
    shown(".side .message")
    for row in driver.find_elements(By.CSS_SELECTOR, ".wf-row.kind-chat_model")[-1:]:
        row.click()
    shown(".stream figcaption", "tokens streamed")
    picture("trace", 1080)
    driver.get(url.partition("?")[0] + "#/")
    shown(".runs td", "claude-sonnet-4")
    for name in ("v1-baseline", "v2-short-prompt"):
        driver.find_element(By.CSS_SELECTOR, f'input[aria-label="compare {name}"]').click()
    driver.find_element(By.LINK_TEXT, "compare the two").click()
    shown(".pairs-table td")
    picture("compare", 1100)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
