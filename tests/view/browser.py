"""A real Chromium without a window, driven by its own driver; and what it saw on the network."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

# How many times slower than it can a page runs, answers come and a new address is noticed: a test
# that looks at a page before the page is there fails then each time, not once in a thousand.
# `BROWSER_SLOWER=10 pytest -n0 tests/view` finds such tests.
SLOWER = float(os.environ.get("BROWSER_SLOWER", "1"))
LATENCY = 0.03
_LATE = """
window.addEventListener("hashchange", (event) => {
    if (event.late) return;
    event.stopImmediatePropagation();
    const again = new HashChangeEvent("hashchange");
    again.late = true;
    setTimeout(() => window.dispatchEvent(again), %d);
}, true);
"""
INSTALL = "apt-get update && apt-get install --yes chromium chromium-driver"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    "--lang=en-US",
)


def missing_browser() -> str | None:
    """Return why there is no browser, and what installs it; None where there is one."""
    lacks = [
        what
        for what, there in (
            ("chromium", any(map(shutil.which, _BROWSERS))),
            ("chromedriver", shutil.which("chromedriver")),
        )
        if not there
    ]
    return f"{' and '.join(lacks)} is not installed: {INSTALL}" if lacks else None


@contextmanager
def chromium(
    width: int = 1280, height: int = 860, *more: str, dark: bool = False
) -> Iterator[Chrome]:
    """A browser with a profile of its own, which notes everything it asks the network for."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = next(path for name in _BROWSERS if (path := shutil.which(name)))
        for argument in (
            *_ARGUMENTS,
            *more,
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
        ):
            options.add_argument(argument)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.set_script_timeout(60)
            resize(driver, width, height)
            if SLOWER > 1:
                _slow_down(driver)
            if dark:
                scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            yield driver
        finally:
            driver.quit()


def _slow_down(driver: Chrome) -> None:
    milliseconds = 1e3 * LATENCY * SLOWER
    driver.execute_cdp_cmd("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": milliseconds,
            "downloadThroughput": -1,
            "uploadThroughput": -1,
        },
    )
    late = {"source": _LATE % milliseconds}
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", late)


def resize(driver: Chrome, width: int, height: int) -> None:
    """Give the page exactly this size."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )


def network(driver: Chrome) -> list[tuple[str, str]]:
    """Return the methods and addresses of all requests since this was last asked."""
    asked = []
    for entry in driver.get_log("performance"):  # type: ignore[no-untyped-call]
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            request: dict[str, Any] = message["params"]["request"]
            asked.append((request["method"], request["url"]))
    return asked


def console(driver: Chrome) -> list[str]:
    """Return what was written to the console since this was last asked."""
    return [entry["message"] for entry in driver.get_log("browser")]  # type: ignore[no-untyped-call]


def save(driver: Chrome, path: Path) -> None:
    """Write a picture of what is seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    driver.save_screenshot(str(path))
