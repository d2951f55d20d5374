"""The web server: which address shows what. The one owner of Starlette.

Nothing blocks the event loop: the shipped files are read before it starts, and every question to
the index is asked in a thread.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from asynctrack._errors import NotFoundError, OptionError

from ._pages import Pages
from ._question import GivenUpError, Question
from ._security import HEADERS, IMAGE_POLICY, Guard
from ._shapes import as_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("asynctrack")

QUESTIONS: Final = 4
"""Questions that are asked of the index at the same time."""

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_STRANGER: Final = "Open the whole address that `asynctrack view` printed, with its token."


def make_app(pages: Pages, guard: Guard) -> ASGIApp:
    """Return the application.

    Args:
        pages: Answers questions.
        guard: Decides who may ask them.
    """
    place = guard.place
    static = shipped_files()
    limiter: list[anyio.CapacityLimiter] = []

    async def ask(answer: Callable[[Mapping[str, str]], Any], request: Request) -> Any:
        if not limiter:  # one belongs to an event loop: it is made in it
            limiter.append(anyio.CapacityLimiter(QUESTIONS))
        asked = dict(request.query_params.items())
        question = Question()
        failed: Exception | None = None
        answered = None
        async with anyio.create_task_group() as group:
            group.start_soon(_watch, request, question)
            try:
                answered = await anyio.to_thread.run_sync(
                    question.answer, answer, asked, limiter=limiter[0]
                )
            except Exception as error:  # raised below: not as one of a group
                failed = error
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return answered

    def api(answer: Callable[[Mapping[str, str]], dict[str, Any]]) -> Callable[..., Any]:
        def encoded(asked: Mapping[str, str]) -> bytes:
            return as_json(answer(asked))

        async def endpoint(request: Request) -> Response:
            try:
                body = await ask(encoded, request)
            except Exception as error:
                return _failed(error)
            return Response(body, media_type="application/json")

        return endpoint

    async def download(request: Request) -> Response:
        try:
            body = await ask(
                lambda asked: pages.download(asked).encode("utf-8", "replace"), request
            )
        except Exception as error:
            return _failed(error)
        headers = {"Content-Disposition": 'attachment; filename="span.json"'}
        return Response(body, media_type="application/json", headers=headers)

    async def image(request: Request) -> Response:
        try:
            content, kind = await ask(pages.image, request)
        except Exception as error:
            return _failed(error)
        headers = {
            "Content-Disposition": f'inline; filename="image.{kind}"',
            "Content-Security-Policy": IMAGE_POLICY,
        }
        return Response(content, media_type=f"image/{kind}", headers=headers)

    async def start(request: Request) -> Response:
        if "token" in request.query_params:
            if not guard.is_token(request.query_params["token"]):
                return PlainTextResponse(_STRANGER, 403)
            return RedirectResponse(place, 303, {"Set-Cookie": guard.set_cookie()})
        return file("index.html")

    def file(name: str) -> Response:
        content, media_type = static[name]
        return Response(content, media_type=media_type)

    async def static_file(request: Request) -> Response:
        name = request.path_params["name"]
        # Only what was read at the start is there: no path leads to any other file.
        return file(name) if name in static else PlainTextResponse("There is nothing here.", 404)

    routes = [
        Route(place, start),
        *(
            Route(f"{place}api/{name}", api(getattr(pages, name)))
            for name in ("state", "home", "run", "traces", "overview", "facets", "components",
                         "sessions", "conversation", "compare", "trace", "span", "text", "raw",
                         "case")
        ),
        Route(f"{place}api/download", download),
        Route(f"{place}api/image", image),
        Route(f"{place}{{name:path}}", static_file),
    ]  # fmt: skip
    return _guarded(Starlette(routes=routes), guard)


def shipped_files() -> dict[str, tuple[bytes, str]]:
    """Return the shipped files and their media types, by their paths."""
    found: dict[str, tuple[bytes, str]] = {}
    root = files("asynctrack.view") / "static"
    for prefix, folder in (("", root), ("vendor/", root / "vendor")):
        for entry in folder.iterdir():
            suffix = f".{entry.name.rpartition('.')[2]}"
            if entry.is_file() and suffix in _TYPES:
                found[f"{prefix}{entry.name}"] = (entry.read_bytes(), _TYPES[suffix])
    return found


def _guarded(app: ASGIApp, guard: Guard) -> ASGIApp:
    """Return the application behind the guard; every answer gets the headers."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no WebSockets

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name for name, _ in given}
                ours = ((name.lower().encode(), value.encode()) for name, value in HEADERS.items())
                message["headers"] = given + [one for one in ours if one[0] not in names]
            await send(message)

        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        path, query = scope["path"], scope["query_string"]
        refused = guard.refuse(scope["method"], path, headers)
        entering = path == guard.place and b"token=" in query
        if refused is None and not entering:
            refused = guard.refuse_site(headers)
            if refused is None and not guard.knows(headers):
                refused = 403, _STRANGER
        if refused is not None:
            status, why = refused
            allow = {"Allow": "GET, HEAD"} if status == 405 else {}
            answer: ASGIApp = PlainTextResponse(why, status, allow)
        else:
            answer = app
        await answer(scope, receive, send_with_headers)

    return guarded


async def _watch(request: Request, question: Question) -> None:
    """Give a question up when the page that asked it has gone, or asks another one."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    question.give_up()


def _failed(error: Exception) -> Response:
    if isinstance(error, GivenUpError):
        return Response(status_code=499)  # nobody reads it
    if isinstance(error, NotFoundError):
        status, why = 404, str(error)
    elif isinstance(error, OptionError):
        status, why = 400, str(error)
    else:
        status, why = 500, f"The viewer could not answer: {type(error).__name__}."
        # The last frames only: what fails on what was logged may be nested as deep as that is.
        frames = "".join(traceback.format_exception(error, limit=-5))
        logger.error("asynctrack view could not answer a page: %s", frames)
    return Response(as_json({"failed": why}), status, media_type="application/json")
