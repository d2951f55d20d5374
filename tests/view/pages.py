"""What the tests do in the browser, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

Value = TypeVar("Value")

# Set before any script of the page runs.
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
    (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
window.alert = window.confirm = window.prompt = () => { window.pwned = "dialog"; };
"""


_CLICK = """
(arguments[0].closest("select") || arguments[0]).scrollIntoView({block: "nearest"});
const note = (event) => { window.hit = window.wanted.contains(event.target) };
window.wanted = arguments[0].closest("select, svg") || arguments[0];
window.hit = false;
if (!window.watched) document.addEventListener("click", note, true);
window.watched = true;
"""
"""Brings an element out from beneath the bar at the top, which the driver takes for seen, and notes
whether the next click hits it."""

_HEAR = """
window.heard = [];
if (!window.hearing) {
    window.hearing = new MutationObserver((changes) => {
        for (const { target } of changes) {
            const near = target.closest ? target : target.parentElement;
            const status = near?.closest("[role=status]");
            if (status) window.heard.push(status.textContent);
        }
    });
    window.hearing.observe(document.body, { subtree: true, childList: true, characterData: true });
}
"""
"""Notes what the page says for a moment: a busy machine may look too late for it."""


class Page:
    """A page in the browser.

    Args:
        driver: The browser.
        url: The address that ``asynctrack view`` printed.
    """

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        self.base = url.partition("?")[0]
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
        driver.get(url)

    def go(self, route: str) -> None:
        """Open a part of the page, as if its address had been typed."""
        self.driver.get(f"{self.base}#/{route}")

    def wait(self, condition: Callable[[], Value], what: str, seconds: float = 60) -> Value:
        """Wait until something is there; a page that is drawn anew, or moves what is to be clicked
        away meanwhile, is looked at again."""
        waiting = WebDriverWait(
            self.driver,
            seconds,
            0.05,
            ignored_exceptions=[StaleElementReferenceException, ElementClickInterceptedException],
        )
        try:
            return waiting.until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"{what}; the page says: {self.text()[:2_000]}") from None

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements of a selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Return their texts, in one look at the page."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)",
            selector,
        )
        return found

    def first(self, selector: str) -> str:
        """Return the text of the first one, empty where there is none."""
        return next(iter(self.texts(selector)), "")

    def attributes(self, selector: str, name: str) -> list[str]:
        """Return an attribute of the elements of a selector, in one look at the page."""
        found: list[str] = self.run(
            "const [selector, name] = arguments;"
            "return [...document.querySelectorAll(selector)].map((one) => one.getAttribute(name))",
            selector,
            name,
        )
        return found

    def text(self) -> str:
        """Return all text that is seen."""
        return str(self.run("return document.body.innerText"))

    def shows(self, selector: str, text: str = "", seconds: float = 60) -> WebElement:
        """Wait for an element with a text in it."""

        def found() -> WebElement | None:
            return next((one for one in self.all(selector) if text in one.text), None)

        element = self.wait(found, f"no {selector} with {text!r}", seconds)
        assert element is not None
        return element

    def click(self, selector: str, text: str = "", number: int = 0) -> None:
        """Click the element of a selector with a text in it, as soon as it is there."""
        self.click_on(
            lambda: [one for one in self.all(selector) if text in one.text][number:],
            f"no {selector} with {text!r} to click",
        )

    def follow(self, text: str) -> None:
        """Click the link with exactly this text, as soon as it is there."""
        self.click_on(
            lambda: self.driver.find_elements(By.LINK_TEXT, text), f"no link {text!r} to click"
        )

    def choose(self, label: str, value: str) -> None:
        """Choose a value of the list with a label, as soon as it is there."""
        self.click_on(
            lambda: [
                one
                for one in self.all(f'select[aria-label="{label}"] option')
                if one.get_attribute("value") == value  # its text, where that says the same
            ],
            f"no {value!r} to choose under {label!r}",
        )

    def click_on(self, find: Callable[[], list[WebElement]], what: str) -> None:
        """Click the first of what is found, once more where the click has missed it: a page that is
        drawn anew, or moves it, between the press and the release gives the click to something
        else."""

        def clicked() -> bool:
            found = find()
            if not found:
                return False
            self.run(_CLICK, found[0])
            found[0].click()
            # A page that was left has nothing to say of it.
            return bool(self.run("return window.hit === undefined || window.hit"))

        self.wait(clicked, what)

    def copy(self, selector: str, text: str = "", says: str = "copied") -> str:
        """Click what copies, and return what is in the clipboard once the page says so."""
        self.run(_HEAR)
        self.click(selector, text)
        self.wait(lambda: says in self.run("return window.heard"), f"it says {says!r}")
        # Pasted: the page is not allowed to read it.
        self.run(
            "const field = document.createElement('textarea'); field.id = 'pasted';"
            "document.body.append(field); field.focus();"
        )
        try:
            key = {
                "type": "keyDown",
                "key": "v",
                "code": "KeyV",
                "modifiers": 2,
                "commands": ["paste"],
            }
            self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", key)
            return str(self.run("return document.getElementById('pasted').value"))
        finally:
            self.run("document.getElementById('pasted').remove()")

    def ready(self) -> None:
        """Wait until everything is read."""
        self.shows("main")
        self.wait(lambda: not self.all(".progress"), "it is still reading")

    def settled(self) -> None:
        """Wait until everything that is shown is the answer to what the address asks for."""
        shown = (
            "const shown = [...document.querySelectorAll('[data-shown]')];"
            "return shown.length > 0 && !document.querySelector('.stale')"
            " && shown.every((one) => one.dataset.shown === location.hash)"
        )
        self.wait(lambda: self.run(shown), "it has not answered")

    def span(self, number: int) -> None:
        """Choose a span in the waterfall, by its place in it."""

        self.click_on(lambda: self.all(".wf-row")[number : number + 1], f"span {number}")
        self.wait(
            lambda: self.attributes(".wf-row", "aria-selected")[number : number + 1] == ["true"],
            "it is chosen",
        )

    def run(self, script: str, *values: Any) -> Any:
        """Run a script in the page, from outside: the page's own rules do not hold for it."""
        return self.driver.execute_script(script, *values)  # type: ignore[no-untyped-call]

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    @property
    def hash(self) -> str:
        """Where we are."""
        return str(self.run("return location.hash"))
