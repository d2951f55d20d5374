"""Each page in a real browser, with the demo."""

# ruff: noqa: E501  # scripts stand in one line

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from tests.view import demo
from tests.view.browser import console, network, resize
from tests.view.pages import Page
from tests.view.serving import Viewer


@pytest.fixture(scope="module")
def first(browser: Chrome, demo_viewer: Viewer) -> Page:
    """The page as it is when the address is opened, with everything read."""
    page = Page(browser, demo_viewer.url)
    page.shows(".runs td", "claude-sonnet-4")
    page.ready()
    return page


@pytest.fixture
def page(first: Page) -> Iterator[Page]:
    """The first page; whatever a test does there, nothing is refused by the browser or fails."""
    first.go("")
    first.shows(".runs td", "v1-baseline")
    console(first.driver)
    yield first
    assert first.run("return window.violations") == []
    assert [line for line in console(first.driver) if "favicon" not in line] == []


def open_run(page: Page, name: str = "v4-tools") -> None:
    """Open a run's page from the first one."""
    page.follow(name)
    page.shows(".traces td", "answer_question")


def count(page: Page) -> str:
    """What the heading over the traces says, as soon as there is one."""
    return page.first("main section.card h2") or "0"


def test_the_token_leaves_the_address(page: Page) -> None:
    """The token is used once; afterwards neither the address nor a script can show it."""
    assert "token" not in page.driver.current_url
    assert page.run("return document.cookie") == ""


def test_experiment_page(page: Page) -> None:
    """Every run is there with its numbers, cost and the parameters that differ, and in charts."""
    rows = page.texts(".runs tbody tr")
    assert [row.split()[0] for row in rows] == [one.run for one in reversed(demo.VERSIONS)]
    assert "gpt-4o-mini" in rows[-1] and "support@3" in rows[-1] and "$" in rows[-1]
    assert "retriever.k" not in page.text(), "all runs have the same one"
    assert page.texts("figcaption")[:1] and len(page.all(".charts figure")) == 4
    assert len(page.all(".charts figure:first-child circle")) == 2 * len(demo.VERSIONS)


def test_runs_are_sorted_and_found(page: Page) -> None:
    """A click on a column sorts by it, again the other way; the search finds runs by name."""
    page.follow("p95")
    page.wait(lambda: page.first(".runs td.name") == "v4-tools", "slowest first")
    page.follow("p95 ↓")
    page.wait(lambda: page.first(".runs td.name") == "v2-short-prompt", "fastest first")
    page.press("/", "short")
    page.wait(lambda: page.texts(".runs td.name") == ["v2-short-prompt"], "one is called so")


def test_compare_two_runs(page: Page) -> None:
    """Two picked runs are shown side by side, the earlier one left, whichever was picked first:
    numbers, parameters, components, and the final answers that changed."""
    for name in ("v2-short-prompt", "v1-baseline"):
        page.click(f'[aria-label="compare {name}"]')
    page.follow("compare the two")
    page.shows(".pairs-table td", "How do I reset my password?")
    text = page.text()
    assert page.texts("h1 a") == ["v1-baseline", "v2-short-prompt"]
    assert "176 of 220 changed" in text, "a question is asked again and again; each is a pair"
    assert page.first(".parameters tr").split() == ["prompt", "support@3", "support@4"]
    assert any("HelpCentre" in row for row in page.texts("main table.plain tr"))
    assert "better" in {one.split()[-1] for one in page.attributes("td.better", "class")}


def test_run_page(page: Page) -> None:
    """The run's totals, charts, parameters, metrics and models are there, its newest traces first."""
    open_run(page)
    page.settled()
    tiles = dict(tuple(tile.split("\n", 1)) for tile in page.texts(".tile"))
    assert tiles["traces"] == "220" and tiles["cost"].startswith("$")
    times = page.texts(".traces tbody td.time")
    assert len(times) == 50 and times == sorted(times, reverse=True)
    page.wait(lambda: len(page.all(".chart .bar")) > 20, "bars of both charts")
    text = page.text()
    assert "retriever.k" in text and "helpful" in text and "claude-sonnet-4" in text


def test_search_and_filters(page: Page) -> None:
    """Text, outcome, name, model, tag, duration and tokens narrow the traces down, together."""
    open_run(page, "v1-baseline")
    page.press("/", "webhooks order.paid")
    page.wait(lambda: count(page) == "21 matching traces", "both words: one of 22 failed")
    page.settled()
    assert set(page.texts(".traces .prompt")) == {"Does the API support webhooks?"}
    page.choose("any tag", "us")
    page.wait(lambda: count(page) == "8 matching traces", "a third of them")
    page.follow("clear all filters")
    page.wait(lambda: count(page) == "220 traces", "all")
    page.choose("outcome", "error")
    page.wait(lambda: count(page) == "3 matching traces", "those that failed")
    page.settled()
    assert all("RateLimitError" in row for row in page.texts(".traces .preview"))
    page.choose("outcome", "")
    page.choose("any name", "look_up_order")
    page.wait(lambda: 50 <= int(count(page).split()[0]) < 60, "those that used the tool")
    slower, _, tokens = page.all('.filters input[type="number"]')
    slower.send_keys("2")
    page.wait(lambda: 0 < int(count(page).split()[0]) < 50, "slow ones with the tool")
    page.settled()
    assert all(float(row.split()[0]) >= 2 for row in page.texts(".traces td.latency"))
    tokens.send_keys("100000")
    page.wait(lambda: count(page) == "0 matching traces", "none reads so much")
    assert "no trace matches" in page.text()


@pytest.mark.parametrize("field", ["tokens", "slower", "text", "find a run"])
def test_what_is_typed_stays(page: Page, field: str) -> None:
    """What is drawn for one key, after the next one was pressed, takes nothing away from it."""
    if field == "find a run":
        selector, name = 'input[aria-label="Find a run by its name"]', "text"
    else:
        open_run(page)
        page.settled()
        selector = "input[type=search]" if field == "text" else f"input[name={field}]"
        name = field
    page.run(
        "const field = document.querySelector(arguments[0]);"
        "field.focus(); field.value = '1'; field.dispatchEvent(new Event('input', { bubbles: true }));"
        "field.value = '12';",  # the next key: its event comes when the first one is drawn
        selector,
    )
    page.wait(lambda: f"{name}=1" in page.hash, "asked for")
    page.settled()
    assert page.run("return document.querySelector(arguments[0]).value", selector) == "12"
    page.press("3")
    page.wait(lambda: f"{name}=123" in page.hash, "and so is the rest")
    page.follow("asynctrack")
    page.wait(lambda: page.first(".runs td.name") == "v4-tools", "the first page")
    shown = page.run("return document.querySelector('input[type=search]').value")
    assert shown == "", "what the address does not say is in no field that nobody types in"


def test_search_by_id_and_exact_words(page: Page) -> None:
    """An id finds its trace, also a span's; words in quotes must stand in a row."""
    open_run(page)
    page.press("/", '"parcel has not arrived"')
    page.wait(lambda: count(page) == "22 matching traces", "the words in a row")
    page.press(Keys.CONTROL, "a", Keys.NULL, '"arrived not has parcel"')
    page.wait(lambda: count(page) == "0 matching traces", "not in this row")
    page.follow("clear all filters")
    page.click(".traces td.name a")
    page.click(".wf-row", "StrOutputParser")
    page.click("[role=tab]", "attributes")
    span = page.shows(".span .ids code").text
    page.press(Keys.ESCAPE)
    page.shows(".traces td")
    page.press("/", span)
    page.wait(lambda: count(page) == "1 matching trace", "the trace of the span")


def test_histogram_chooses_a_range(page: Page) -> None:
    """A click on a bar of the histogram keeps the traces in it."""
    open_run(page)
    page.settled()
    bars = '[aria-label="Latency histogram"] g > .bar:not(.failed)'
    heights = [float(height) for height in page.attributes(bars, "height")]
    titles = page.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.parentNode.querySelector('title').textContent)", bars)  # fmt: skip
    tallest = heights.index(max(heights))
    wanted = int(titles[tallest].split(": ")[1].split()[0])
    page.click(bars, number=tallest)
    page.wait(lambda: count(page).split()[:2] == [str(wanted), "matching"], f"{wanted} traces")


def test_pages_of_traces(page: Page) -> None:
    """All traces of a run are on its pages, each once."""
    open_run(page)
    seen: list[str] = []
    for number in range(1, 6):
        page.wait(lambda number=number: f"page {number} of 5" in page.text(), f"page {number}")  # type: ignore[misc]
        page.settled()
        seen += page.attributes(".traces td.name a", "href")
        if number < 5:
            page.follow("next →")
    traces = [link.partition("/trace/")[2].partition("?")[0] for link in seen]
    assert len(traces) == len(set(traces)) == 220


def test_trace_page(page: Page) -> None:
    """The waterfall shows every span; a click shows its prompt and answer, and when tokens came."""
    open_run(page)
    page.click(".traces td.name a")
    page.shows(".wf-row", "StrOutputParser")
    names = page.texts(".wf-name bdi")
    assert names == ["answer_question", "HelpCentre", "ChatPromptTemplate", "agent", "ChatAnthropic",
                     "look_up_order", "ChatAnthropic", "StrOutputParser"]  # fmt: skip
    page.click(".wf-row.kind-chat_model", number=1)
    page.shows(".stream figcaption", "tokens streamed")
    page.shows(".span .facts", "from the cache")
    page.shows(".span .facts", "reasoning")
    assert "cached" in page.attributes(".bar.title .facts span", "title")[-1]
    prompt, answer = page.texts(".side")
    assert [role for role in ("system", "human", "ai", "tool") if f"\n{role}" in prompt] == [
        "system", "human", "ai", "tool"]  # fmt: skip
    assert "calls look_up_order" in prompt and '"last": 3' in prompt
    assert "There is an incident" in answer
    assert page.attributes(".chart.tokens .ticks", "d")[0].count("M") > 10


def test_markdown_is_text(page: Page) -> None:
    """Markdown is shown as it was written."""
    open_run(page)
    page.press("/", '"choose *Reset"')
    asked = {"How do I reset my password?"}
    page.wait(lambda: set(page.texts(".traces .prompt")) == asked, "those with this answer")
    page.click(".traces td.name a")
    page.click(".wf-row")
    page.shows(".side", "Open **Settings → Security** and choose *Reset password*.")


def test_failed_trace(page: Page) -> None:
    """A failed trace opens at the span that failed, with message, causes and traceback."""
    open_run(page)
    page.choose("outcome", "error")
    page.wait(lambda: "matching" in count(page), "filtered")
    page.settled()
    page.click(".traces td.name a")
    failure = page.shows(".failure", "openai.RateLimitError").text
    assert "Error code: 429" in failure and "httpx.HTTPStatusError" in failure
    assert "line 1594, in AsyncAPIClient.request" in failure
    assert "error" in page.attributes(".wf-row[data-chosen]", "class")[0]


def test_raw_json_and_attributes(page: Page) -> None:
    """Attributes and the raw JSON of a span are there, and can be downloaded."""
    open_run(page)
    page.click(".traces td.name a")
    page.click("[role=tab]", "attributes")
    page.shows(".field", "gen_ai.request.model")
    page.click("[role=tab]", "raw JSON")
    assert '"span_id"' in page.shows(".logged.mono", '"inputs"').text
    assert "api/download?" in page.attributes(".span a[download]", "href")[0]


def test_copy_as_pytest_case(page: Page) -> None:
    """The button copies a test that is Python, and shows it."""
    page.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})  # fmt: skip
    open_run(page)
    page.click(".traces td.name a")
    copied = page.copy("button", "copy as pytest case")
    code = page.run("return document.querySelector('.case .logged').textContent")
    assert copied == code
    names = [one.name for one in ast.parse(code).body if isinstance(one, ast.FunctionDef)]
    assert len(names) == 1 and names[0].startswith("test_chatanthropic_")
    assert "def test_chatanthropic_" in code and "(model)" in code


def test_keyboard(page: Page) -> None:
    """Everything is reached without a mouse: slash, arrows, enter, escape, brackets, tab."""
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    page.shows(".bar.title h1", "v3-gpt-4o")
    page.shows(".traces td")
    page.press("/", "parcel", Keys.ESCAPE)
    page.wait(lambda: count(page).startswith("22 matching"), "searched")
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ENTER)
    page.shows(".wf-row[data-chosen]")
    chosen = lambda: page.texts(".wf-row[data-chosen] .wf-name")  # noqa: E731
    before = chosen()
    page.press(Keys.HOME)
    page.wait(lambda: chosen() != before and "answer_question" in chosen()[0], "the first span")
    spans = len(page.all(".wf-row"))
    page.press(Keys.ARROW_LEFT)
    page.wait(lambda: len(page.all(".wf-row")) == 1, "folded")
    page.press(Keys.ARROW_RIGHT)
    page.wait(lambda: len(page.all(".wf-row")) == spans, "unfolded")
    page.press(Keys.ARROW_DOWN)
    page.shows(".span h2", "HelpCentre")
    here = page.hash
    page.press("[")
    page.wait(lambda: page.hash.partition("?")[0] != here.partition("?")[0], "an older trace")
    page.press("?")
    page.shows("[role=dialog]", "older, newer trace")
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page.all("[role=dialog]"), "closed")
    page.press(Keys.ESCAPE)
    page.wait(lambda: "text=parcel" in page.hash and "/trace/" not in page.hash, "back, filtered")
    page.shows(".traces td")
    page.press(Keys.ESCAPE)
    page.shows(".runs td")
    reached = set()
    for _ in range(40):
        page.press(Keys.TAB)
        reached.add(page.run("const at = document.activeElement; return at.innerText || at.type"))
    assert {"v1-baseline", "checkbox", "search", "p95"} <= reached


def test_a_key_that_is_held_down(page: Page) -> None:
    """Where the browser ignores too many changes of the address, the last one is made in the end."""
    open_run(page)
    page.click(".traces td.name a")
    page.shows(".span h2")
    chosen = (
        "[...document.querySelectorAll('.wf-row')].findIndex((one) => one.ariaSelected === 'true')"
    )
    wanted = page.run(f"return {chosen}") + 1
    assert 1 < wanted < len(page.all(".wf-row")) - 1, "not where the keys go before"
    page.run(
        "const press = (key) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));"
        "for (let n = 0; n < 400; n += 1) press(n % 2 ? 'Home' : 'End');"
        "press('ArrowDown');"
    )
    assert f"span={wanted}" not in page.hash, "it is ignored"
    page.wait(lambda: f"span={wanted}" in page.hash, "the last one", 25)
    page.wait(lambda: page.run(f"return {chosen}") == wanted, "shown")
    said = console(page.driver)
    assert all("Throttling navigation" in line for line in said), said


def test_ranges_are_chosen_by_keyboard(page: Page) -> None:
    """Times and latencies are chosen, and given up again, without a mouse."""
    open_run(page)
    times = page.run(
        "return [...document.querySelectorAll('.traces td.time')].map((one) => one.title)"
    )
    since, until = times[40], times[10]
    assert since < until

    def reach(name: str) -> None:
        for _ in range(20):
            if (
                page.run("const at = document.activeElement; return at.name || at.innerText")
                == name
            ):
                return
            page.press(Keys.TAB)
        raise AssertionError(f"{name} is not reached")

    def type_time(when: str) -> None:
        day, clock = when.split()
        year, month, date = day.split("-")
        hour, minute, second = clock.split(":")
        noon = "PM" if int(hour) >= 12 else "AM"
        page.press(
            month,
            date,
            year,
            Keys.ARROW_RIGHT,
            f"{(int(hour) - 1) % 12 + 1:02}",
            minute,
            second,
            noon,
        )

    page.press("/")
    reach("since")
    type_time(since)
    page.press(Keys.ENTER)
    later = sum(one >= since for one in times)
    page.wait(lambda: count(page) == f"{later} matching traces", f"{later} started then or later")
    reach("until")
    type_time(until)
    page.press(Keys.TAB)
    between = sum(since <= one < until for one in times)
    page.wait(lambda: count(page) == f"{between} matching traces", f"{between} started before")
    reach("any time ✕")
    page.press(Keys.SPACE)
    page.wait(lambda: count(page) == "220 traces", "at any time")
    assert page.run("return document.querySelector('[name=since]').value") == ""
    page.press("/")
    reach("faster")
    page.press("1.9")
    page.wait(
        lambda: (
            "faster=1.9"
            in page.run("return document.querySelector('[data-shown]')?.dataset.shown ?? ''")
        ),
        "the fast ones",
    )
    assert 0 < int(count(page).split()[0]) < 220
    assert all(
        "ms" in row or float(row.split()[0]) <= 1.9 for row in page.texts(".traces td.latency")
    )


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    """No page needs scrolling to the side, at 1280 and at 800 pixels."""
    try:
        resize(page.driver, width, 800)
        wide = "return document.documentElement.scrollWidth"
        assert page.run(wide) <= width
        open_run(page)
        page.wait(lambda: page.all(".chart .bar"), "charts")
        assert page.run(wide) <= width
        page.click(".traces td.name a")
        page.shows(".side")
        assert page.run(wide) <= width
    finally:
        resize(page.driver, 1280, 860)


def test_everything_comes_from_the_viewer(page: Page, demo_viewer: Viewer) -> None:
    """No request of all these pages left the viewer's own address, and none was not a GET."""
    asked = network(page.driver)
    ours = [one for one in asked if not one[1].startswith(("data:", "chrome"))]
    assert ours
    assert {method for method, _ in ours} == {"GET"}
    assert [url for _, url in ours if not url.startswith(demo_viewer.base)] == []
