"""Images in a span: as pixels where their bytes are those of an image, as text everywhere else."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from selenium.webdriver import Chrome

from asynctrack import open_run
from asynctrack._reading.decoding.media import Media, media_of
from asynctrack._reading.index.columns import SPANS, rows_of
from asynctrack._reading.index.said import preview
from asynctrack.view._blocks import MAX_IMAGES, Side
from asynctrack.view._images import MAX_BYTES, MAX_PIXELS, to_show
from tests.e2e.waiting import until_in_thread
from tests.reading import pictures
from tests.reading.making import RunFolder, event
from tests.view.browser import console, network
from tests.view.pages import Page
from tests.view.serving import Viewer, viewer
from tests.view.test_security import ask

QUESTION = "What is in this image?"
PHOTO = pictures.png(800, 600)
HTML = b"<!DOCTYPE html><script>window.pwned='html'</script>"
POLYGLOT = pictures.gif(4, 4)[:-1] + b"<script>window.pwned='gif'</script>;"


def image(content: bytes, mime: str = "image/png") -> dict[str, Any]:
    """A block with an image."""
    return {"type": "image", "base64": pictures.encoded(content), "mime_type": mime}


ASKED = {
    "type": "human",
    "content": [
        {"type": "text", "text": QUESTION},
        image(PHOTO),  # 0
        image(pictures.SVG, "image/svg+xml"),
        image(pictures.SVG, "image/png"),
        image(HTML, "image/png"),
        image(POLYGLOT, "text/html"),  # 1
        image(PHOTO[:40]),  # 2: its head only
        image(pictures.png(60_000, 60_000)[:60]),  # 3: too many pixels
        {"type": "input_audio", "input_audio": {"data": pictures.encoded(bytes(200_000)),
                                                "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "https://evil.invalid/beacon.png"}},
        image(PHOTO + bytes(MAX_BYTES)),  # too large
    ],
}  # fmt: skip
SHOWN = {0: "png", 1: "gif"}
BROKEN = (2, 3)


def fill(folder: RunFolder) -> None:
    """A Run with one trace: an image is asked about, one is drawn."""
    ids = {"trace_id": "t"}
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="t", name="look", tags=["x" * 1_000],
                  inputs=[ASKED], **ids),
            event(2, kind="chat_model_start", span_id="m", parent_span_id="t", name="Model",
                  inputs={"messages": [[ASKED]]}, **ids),
            event(3, kind="llm_end", span_id="m", parent_span_id="t",
                  outputs={"drawn": image(pictures.PNG), "words": "a cat"}, **ids),
            event(4, kind="chain_end", span_id="t", outputs="A cat.", **ids),
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A viewer of the Run."""
    folder = RunFolder(tmp_path_factory.mktemp("images"))
    fill(folder)
    with viewer(folder.root, "--no-spool") as shown:
        yield shown


@pytest.fixture(scope="module")
def cookie(served: Viewer) -> str:
    """The cookie that the token is exchanged for, once the Run is read."""
    _, headers, _ = ask(served, f"{served.place}?{served.url.partition('?')[2]}")
    given = headers["set-cookie"].partition(";")[0]
    until_in_thread(lambda: the_run(served, given)["phase"] == "ready")
    return given


def the_run(served: Viewer, cookie: str) -> Any:
    """What the first page says of the Run."""
    (run,) = json.loads(ask(served, f"{served.place}api/home", cookie=cookie)[2])["runs"]
    return run


def where(served: Viewer, cookie: str, **asked: Any) -> str:
    """The path of an image of the model's call."""
    given = {
        "run": the_run(served, cookie)["id"],
        "trace": "t",
        "place": 1,
        "side": "inputs",
        "number": 0,
        **asked,
    }
    return f"{served.place}api/image?{urlencode(given)}"


# -- which bytes are an image -----------------------------------------------------------------


def made(content: bytes) -> Media:
    """An image that is logged as a PNG, whatever it is."""
    media = media_of(image(content))
    assert media is not None
    return media


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (pictures.PNG, "png"),
        *((content, kind) for kind, content in pictures.WRITTEN.values()),
        (pictures.jpeg(), "jpeg"),
        (pictures.webp(), "webp"),
        (pictures.gif(), "gif"),
    ],
)
def test_images_are_known_by_their_bytes(content: bytes, kind: str) -> None:
    """An image's type is what its bytes say, whatever was logged of it."""
    assert to_show(made(content)) == (content, kind)


@pytest.mark.parametrize(
    "content",
    [
        pictures.SVG,
        HTML,
        b"\n" + pictures.PNG,
        pictures.PNG[:20],
        pictures.gif()[:8],
        pictures.jpeg()[:200],
        b"\xff\xd8\xff" + b"\xff" * 99,
        b"\xff\xd8\xff\xe0\x00\x00" * 20,
        pictures.webp()[:20],
        pictures.WAV,
        b"BM" + bytes(60),
        b"II*\x00" + bytes(60),
        pictures.png(0, 5),
        pictures.png(MAX_PIXELS, 2)[:50],
        pictures.gif(65_535, 65_535),
        pictures.jpeg(60_000, 60_000),
        pictures.webp(16_000, 16_000),
        pictures.PNG + bytes(MAX_BYTES),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_everything_else_is_none(content: bytes) -> None:
    """Vector graphics, pages, halves, other types, and what is too large are not shown."""
    assert to_show(made(content + bytes(4))) is None


def test_only_images_are_shown() -> None:
    """Bytes of an image in another kind of block are not shown, nor what cannot be decoded."""
    file = media_of({"type": "audio", "base64": pictures.encoded(pictures.PNG), "mime_type": "a/b"})
    assert file is not None and to_show(file) is None
    bad = media_of({"type": "image", "base64": pictures.encoded(PHOTO)[:1_200] + "<script>"})
    assert bad is not None and to_show(bad) is None


# -- blocks and rows --------------------------------------------------------------------------


def parts(value: Any) -> list[tuple[Any, ...]]:
    """The kinds, texts and numbers of the parts of a message, or of blocks."""
    blocks = Side(value).blocks
    blocks = blocks[0]["parts"] if blocks[0]["kind"] == "message" else blocks
    return [
        (one["kind"], one["text"]["text"], *([one["number"]] if "number" in one else []))
        for one in blocks
    ]


def test_blocks_hold_no_data() -> None:
    """A block says what an image is, and its number; what it says besides is shown as well."""
    assert parts(ASKED) == [
        ("text", QUESTION),
        ("image", f"image, {len(PHOTO) / 1000:.1f} KB, png", 0),
        ("file", f"image, {len(pictures.SVG)} B, svg"),
        ("file", f"image, {len(pictures.SVG)} B, png"),
        ("file", f"image, {len(HTML)} B, png"),
        ("image", f"image, {len(POLYGLOT)} B, gif", 1),
        ("image", "image, 40 B, png", 2),
        ("image", "image, 60 B, png", 3),
        ("file", "audio, 200 KB, wav"),
        ("file", "image, https://evil.invalid/beacon.png"),
        ("file", "image, 10 MB, png"),
    ]
    assert len(json.dumps(Side(ASKED).blocks)) < 2_000
    cached = {**image(pictures.PNG), "cache_control": {"type": "ephemeral"}, "text": "a caption"}
    more = '{\n  "cache_control": {\n    "type": "ephemeral"\n  }\n}'
    assert parts({"type": "human", "content": [cached]}) == [
        ("image", pictures.WORDS, 0), ("json", more), ("text", "a caption"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (pictures.url(pictures.PNG, "image/png"), [("image", pictures.WORDS, 0)]),
        (image(pictures.PNG), [("image", pictures.WORDS, 0)]),
        (
            {**image(pictures.PNG), "question": QUESTION},
            [("image", pictures.WORDS, 0), ("json", json.dumps({"question": QUESTION}, indent=2))],
        ),
        (
            [{"type": "text", "text": QUESTION}, image(pictures.PNG)],
            [("text", QUESTION), ("image", pictures.WORDS, 0)],
        ),
        (
            {"question": QUESTION, "picture": image(pictures.PNG)},
            [("field", QUESTION), ("image", pictures.WORDS, 0)],
        ),
        (
            {"deep": [{"er": pictures.url(pictures.PNG, "image/png")}]},
            [("json", json.dumps([{"er": pictures.WORDS}], indent=2))],
        ),
    ],
)
def test_images_anywhere_in_a_payload(value: Any, wanted: list[Any]) -> None:
    """An image is one as the whole of an input, as a field of it, and in a list with texts."""
    assert parts(value) == wanted


def test_only_so_many_images() -> None:
    """Of a side only so many images are shown; the others are said."""
    shown = parts({"type": "human", "content": [image(pictures.PNG)] * (MAX_IMAGES + 2)})
    assert [kind for kind, *_ in shown] == ["image"] * MAX_IMAGES + ["file"] * 2


@pytest.mark.parametrize("value", pictures.IMAGES.values(), ids=pictures.IMAGES)
def test_a_preview_shows_the_question(value: Any) -> None:
    """No shape of an image hides the question in a list, wherever it stands."""
    text = {"type": "text", "text": QUESTION}
    for content in ([text, value], [value, text]):
        asked = {"messages": [[{"type": "system", "content": "x"},
                               {"type": "human", "content": content}]]}  # fmt: skip
        assert preview(asked) == f"{QUESTION} · {pictures.WORDS}"
    assert preview({"type": "human", "content": [value]}) == pictures.WORDS
    assert preview({"image": value}) == pictures.WORDS


def test_a_preview_of_hostile_lists() -> None:
    """Lists in lists with images in each have a preview, and other texts are not hidden."""
    value: Any = QUESTION
    for _ in range(2_000):
        value = [image(pictures.PNG), value]
    assert pictures.WORDS in preview(value)
    found = [{"type": "document", "url": "https://a.invalid", "content": "long"}]
    assert preview(found) == "long"


def test_base64_is_not_searched(tmp_path: Any) -> None:
    """A search finds the question and what an image is, and nothing of its base64."""
    folder = RunFolder(tmp_path)
    fill(folder)
    (trace,) = open_run(folder.path).traces()
    row, spans = rows_of(("e", "r"), 1, 1, trace)
    words = row[-1].split("\n")
    assert {QUESTION.lower(), "audio, 200 kb, wav", "https://evil.invalid/beacon.png"} <= {*words}
    assert len(row[-1]) < 2_000
    kept = dict(zip((name for name, _ in SPANS), spans[0], strict=True))
    assert pictures.encoded(PHOTO) in kept["inputs"], "all of it is kept"


# -- the route --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SHOWN)
def test_the_route_gives_pixels(served: Viewer, cookie: str, number: int) -> None:
    """An image comes with the type of its bytes, in a sandbox, and is kept nowhere."""
    status, fields, body = ask(served, where(served, cookie, number=number), cookie=cookie)
    assert (status, body) == (200, PHOTO if number == 0 else POLYGLOT)
    kind = SHOWN[number]
    assert fields["content-type"] == f"image/{kind}"
    assert fields["content-disposition"] == f'inline; filename="image.{kind}"'
    assert fields["content-security-policy"] == "default-src 'none'; sandbox"
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["cross-origin-resource-policy"] == "same-origin"
    assert fields["cache-control"] == "no-store"


def test_each_header_is_there_once(served: Viewer, cookie: str) -> None:
    """The policy of an image stands in place of the page's, not beside it."""
    path = where(served, cookie)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    try:
        connection.request("GET", path, headers={"cookie": cookie})
        answer = connection.getresponse()
        names = [name.lower() for name, _ in answer.getheaders()]
        answer.read()
    finally:
        connection.close()
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        *(({"number": number}, 404) for number in (3, 4, 99)),
        ({"side": "outputs", "number": 1}, 404),
        ({"side": "raw"}, 400),
        ({"side": ""}, 400),
        ({"number": "x"}, 400),
        ({"number": "-1"}, 400),
        ({"place": 99}, 404),
        ({"trace": "other"}, 404),
        ({"run": "other"}, 404),
    ],
)
def test_what_is_no_image_is_not_there(
    served: Viewer, cookie: str, asked: dict[str, Any], wanted: int
) -> None:
    """Too many pixels, another number, another side: the answer says so, as text."""
    status, fields, _ = ask(served, where(served, cookie, **asked), cookie=cookie)
    assert (status, fields["content-type"]) == (wanted, "application/json")


def test_strangers_get_no_image(served: Viewer, cookie: str) -> None:
    """The route has the same guard as every other."""
    path = where(served, cookie)
    assert ask(served, path)[0] == 403
    assert ask(served, path, cookie=cookie, host="evil.example")[0] == 421
    assert ask(served, path, cookie=cookie, sec_fetch_site="cross-site")[0] == 403
    assert ask(served, path, cookie=cookie, origin="http://evil.example")[0] == 403
    assert ask(served, path, "POST", cookie=cookie)[0] == 405


# -- in the browser ---------------------------------------------------------------------------


def test_the_browser_shows_pixels_and_nothing_else(browser: Chrome, served: Viewer) -> None:
    """A photo is shown, small enough, and said; an SVG, a page and an address are text, and what
    cannot be shown becomes text."""
    page = Page(browser, served.url)
    page.shows(".runs td", "one")
    page.ready()
    network(page.driver)
    page.click(".runs td.name a", "one")
    page.shows(".traces .preview", QUESTION)
    assert "image, " in page.first(".traces .preview")
    page.click(".traces td.name a", "look")
    page.shows(".wf-row[data-chosen]")
    page.wait(lambda: len(page.all(".wf-row")) == 2, "all spans")
    page.span(1)
    page.settled()
    page.shows(".side .message", QUESTION)
    loaded = (
        "return [...document.querySelectorAll('.picture img')].filter((one) => one.complete)"
        ".map((one) => [one.naturalWidth, one.naturalHeight, one.alt])"
    )
    for picture in page.all(".picture img"):
        page.run("arguments[0].scrollIntoView()", picture)
    page.wait(lambda: len(page.run(loaded)) == len(page.all(".picture img")) == 3, "all loaded")
    photo, small, answer = page.run(loaded)
    assert photo == [800, 600, f"image, {len(PHOTO) / 1000:.1f} KB, png"]
    assert small[:2] == [4, 4] and answer[:2] == [40, 30]
    box = page.run("return document.querySelector('.picture img').getBoundingClientRect().toJSON()")
    assert 0 < box["height"] <= 360 and box["width"] <= 800
    said = page.texts(".side:first-child .logged")
    assert [f"image, {len(pictures.SVG)} B, {kind}" for kind in ("svg", "png")] == said[2:4]
    assert "image, 40 B, png" in said and "audio, 200 KB, wav" in said
    assert "image, https://evil.invalid/beacon.png" in said
    assert page.attributes(".picture img", "loading") == ["lazy"] * 3
    assert page.run("return window.pwned") is None and page.run("return window.violations") == []
    asked = [url for _, url in network(page.driver) if not url.startswith(("data:", "chrome"))]
    assert [url for url in asked if not url.startswith(served.base)] == []
    assert sum("api/image?" in url for url in asked) == len(SHOWN) + len(BROKEN) + 1
    page.click('button[role="tab"]', "attributes")
    assert all(len(tag) == 300 for tag in page.texts(".ids .tag"))
    console(page.driver)  # those that could not be shown are noted there
