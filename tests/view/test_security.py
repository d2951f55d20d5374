"""What the server refuses, asked over plain HTTP by somebody who is no browser."""

# ruff: noqa: E501  # lists of attacks

from __future__ import annotations

import asyncio
import http.client
import re
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asynctrack.view._question import GivenUpError
from asynctrack.view._question import asked as asked_question
from asynctrack.view._security import Guard
from asynctrack.view._server import make_app, shipped_files
from tests.reading.making import RunFolder, event
from tests.view.serving import Viewer, viewer

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A viewer of a small run."""
    folder = RunFolder(tmp_path_factory.mktemp("runs"))
    folder.artifact([event(1, kind="chain_start", span_id="a", name="a", inputs="secret prompt")])
    with viewer(folder.root, "--no-spool") as shown:
        yield shown


@pytest.fixture(scope="module")
def cookie(served: Viewer) -> str:
    """The cookie that the token is exchanged for."""
    token = served.url.partition("?")[2]
    status, headers, _ = ask(served, f"{served.place}?{token}")
    assert (status, headers["location"]) == (303, served.place)
    given = headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", f"Path={served.place}"} <= set(given.split("; "))
    return given.partition(";")[0]


def ask(served: Viewer, path: str, method: str = "GET", **headers: str) -> Answer:
    """Ask; a header's name is written with underscores."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        given = {"host": f"127.0.0.1:{served.port}", **headers}
        for name, value in given.items():
            if value:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, fields, answer.read()
    finally:
        connection.close()


def test_with_the_cookie_everything_is_there(served: Viewer, cookie: str) -> None:
    """The page, its parts and the answers are served to whoever has the cookie."""
    for path in ("", "main.js", "app.css", "vendor/preact.js", "api/state", "api/home"):
        status, _, body = ask(served, served.place + path, cookie=cookie)
        assert status == 200 and body, path
        status, fields, body = ask(served, served.place + path, "HEAD", cookie=cookie)
        assert (status, body) == (200, b"") and int(fields["content-length"]) > 0


@pytest.mark.parametrize("path", ["", "main.js", "api/home", "api/state"])
def test_without_the_cookie_nothing_is(served: Viewer, cookie: str, path: str) -> None:
    """Without the cookie, or with another one, no page, no file and no answer is served."""
    wrong = cookie[:-1] + ("a" if cookie[-1] != "a" else "b")
    for given in ("", wrong, cookie.partition("=")[0] + "=", "asynctrack_view", "é=\x80; " * 3):
        status, _, body = ask(served, served.place + path, cookie=given)
        assert status == 403 and b"token" in body, given


def test_a_wrong_token_is_refused(served: Viewer) -> None:
    """A wrong, empty or long token sets no cookie."""
    for token in ("", "x", "x" * 60_000, "%00", "é"):
        status, fields, _ = ask(served, f"{served.place}?token={token.encode().hex()}")
        assert status == 403 and "set-cookie" not in fields


def test_other_hosts_are_refused(served: Viewer, cookie: str) -> None:
    """A name that is not this machine's is refused: a site could point it here (DNS rebinding)."""
    for host in ("evil.example", f"evil.example:{served.port}", "127.0.0.1.evil.example", "",
                 "localhost.evil.example", "127.0.0.1:80:80", "0.0.0.0", "127.0.0.1@evil.example"):  # fmt: skip
        status, _, _ = ask(served, f"{served.place}api/home", host=host, cookie=cookie)
        assert status in (400, 421), host
    for host in ("localhost", f"localhost:{served.port}", "127.0.0.1:9000"):
        assert ask(served, f"{served.place}api/home", host=host, cookie=cookie)[0] == 200, host


def test_other_sites_are_refused(served: Viewer, cookie: str) -> None:
    """A request that another site made the browser send is refused, even with the cookie."""
    path = f"{served.place}api/home"
    for origin in ("http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"):
        assert ask(served, path, cookie=cookie, origin=origin)[0] == 403, origin
    for site in ("cross-site", "same-site"):
        assert ask(served, path, cookie=cookie, sec_fetch_site=site)[0] == 403, site
    own = f"http://127.0.0.1:{served.port}"
    assert ask(served, path, cookie=cookie, origin=own, sec_fetch_site="same-origin")[0] == 200


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]
)
def test_nothing_can_be_changed(served: Viewer, cookie: str, method: str) -> None:
    """Only GET and HEAD are answered."""
    status, fields, _ = ask(served, f"{served.place}api/home", method, cookie=cookie)
    assert status == 405 and fields["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path",
    ["../_pages.py", "..%2f_pages.py", "%2e%2e/_pages.py", "vendor/../../_pages.py", "/etc/passwd",
     "..%5c_pages.py", "....//_pages.py", "%00", "main.js%00", "vendor", "vendor/", "_pages.py",
     "vendor/%2e%2e/%2e%2e/%2e%2e/__init__.py", "file:///etc/passwd"],
)  # fmt: skip
def test_no_path_leads_out(served: Viewer, cookie: str, path: str) -> None:
    """No path leads to a file that is not shipped with the page."""
    status, _, body = ask(served, served.place + path, cookie=cookie)
    assert status in (400, 404) and b"import" not in body and b"root:" not in body


def test_outside_its_folder_nothing_answers(served: Viewer, cookie: str) -> None:
    """Other paths of the port say nothing, with the cookie or without."""
    for path in ("/", "/api/home", "/favicon.ico", "//evil.example/", served.place[:-1]):
        assert ask(served, path, cookie=cookie)[0] == 404, path


def test_headers(served: Viewer, cookie: str) -> None:
    """Every answer, refusals too, forbids what a browser could be made to do with it."""
    answers = [
        ask(served, served.place, cookie=cookie),
        ask(served, f"{served.place}api/home", cookie=cookie),
        ask(served, "/"),
        ask(served, served.place, "POST"),
        ask(served, served.place, host="evil.example"),
    ]
    for _, fields, _ in answers:
        policy = fields["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy and "data:" not in policy
        assert fields["x-content-type-options"] == "nosniff"
        assert fields["referrer-policy"] == "no-referrer"
        assert fields["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in fields and "server" not in fields


def test_questions_that_make_no_sense(served: Viewer, cookie: str) -> None:
    """A wrong question is answered with what is allowed; none of them breaks the server."""
    home = ask(served, f"{served.place}api/home", cookie=cookie)[2]
    run = re.findall(rb'"id":"(\w+)"', home)[0].decode()
    for question, wanted in {
        "traces": 404, "traces?run=x": 404, f"traces?run={run}&sort=x": 400, "home?sort=x": 400,
        f"traces?run={run}&page=-1": 400, f"traces?run={run}&page=9999999999": 400,
        f"traces?run={run}&slower=nan": 400, f"traces?run={run}&slower=1e99": 400,
        f"traces?run={run}&text=%27;%20DROP%20TABLE%20traces": 200, f"traces?run={run}&page=99": 200,
        f"overview?run={run}&text=%22": 200, f"overview?run={run}&since=-1e15&until=1e15": 200,
        f"trace?run={run}&trace=none": 404, f"trace?run={run}&trace=a": 200,
        f"span?run={run}&trace=a&place=7": 404, f"text?run={run}&trace=a&side=x&number=0": 400,
        f"text?run={run}&trace=a&side=inputs&number=9": 404, f"compare?a={run}&b={run}": 200,
        f"download?run={run}&trace=a": 200, "nothing": 404, f"traces?run={run}&outcome=x": 400,
    }.items():  # fmt: skip
        assert ask(served, f"{served.place}api/{question}", cookie=cookie)[0] == wanted, question
    assert "could not answer" not in served.errors()


def test_loopback_only(served: Viewer) -> None:
    """The port is closed on every other address of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses an address
        except OSError:
            pytest.skip("this machine has no other address")
        other = probe.getsockname()[0]
    if other.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError):
        socket.create_connection((other, served.port), 2).close()


def test_secrets_differ() -> None:
    """Every viewer has a folder, a token and a cookie of its own."""
    first, second = Guard(), Guard()
    assert first.place != second.place and first.token != second.token
    assert first.set_cookie() != second.set_cookie()
    assert first.token not in first.set_cookie()


def test_scripts_never_make_markup() -> None:
    """No shipped script of ours hands a text to the browser as markup or code."""
    for name, (content, _) in shipped_files().items():
        if name.endswith(".js") and not name.startswith("vendor/"):
            text = content.decode()
            assert not re.search(r"innerHTML|outerHTML|insertAdjacent|dangerously|document\.write|\beval\b|Function\(", text), name  # fmt: skip
            assert not re.search(r"https?://(?!www\.w3\.org/)", text), name


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_leaves_nothing(tmp_path: Path, ending: signal.Signals) -> None:
    """The database is only for its user while the viewer runs; Ctrl-C ends it at once, cleanly."""
    folder = RunFolder(tmp_path / "runs")
    folder.artifact([event(1, kind="chain_start", span_id="a", name="a")])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with viewer(folder.root, "--no-spool", env={"TMPDIR": str(scratch)}) as shown:
        (made,) = scratch.glob("asynctrack-view-*")
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert (made / "index.duckdb").exists()
        # A page that stays open does not keep it from ending.
        with socket.create_connection(("127.0.0.1", shown.port)):
            shown.process.send_signal(ending)
            assert shown.process.wait(60) == 0
        assert shown.errors().strip() == "Stopped."
    assert list(scratch.iterdir()) == []


def test_a_page_that_goes_gives_its_question_up() -> None:
    """What a browser asks for and does not wait for is worked on no longer."""
    guard = Guard()
    given_up = []

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return self.answer

        def answer(self, asked: Any) -> Any:
            question = asked_question()
            assert question is not None
            until = time.monotonic() + 60
            while not question.given_up:
                assert time.monotonic() < until
            given_up.append(asked["text"])
            raise GivenUpError

    app = make_app(Slow(), guard)  # type: ignore[arg-type]  # for it
    messages = [{"type": "http.request"}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    host = (b"host", b"127.0.0.1")
    headers = [host, (b"cookie", guard.set_cookie().partition(";")[0].encode())]
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"{guard.place}api/traces",
        "root_path": "",
        "query_string": b"text=fish",
        "headers": headers,
        "http_version": "1.1",
    }
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]  # as it is
    assert given_up == ["fish"]
    assert sent[0]["status"] == 499
