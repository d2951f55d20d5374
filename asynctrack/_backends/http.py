"""aiohttp for our clients: one attempt, no other address, and nobody but who can prove it.

Below botocore, aiohttp and aiobotocore do what boto3 does not: send a request a second time when a
kept connection turns out to be closed; follow a redirect to wherever it points, with the body; and,
in aiobotocore 2, take any certificate behind a proxy, and one for any other name without. There is
one retry layer, ``retry``, and it sees every attempt; events go to the user's S3 and to nobody
else.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.httpsession import AIOHTTPSession


class VerifiedSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """aiobotocore's HTTP session, that speaks to nobody but whom it is meant for."""

    def _get_ssl_context(self) -> ssl.SSLContext:
        context: ssl.SSLContext = super()._get_ssl_context()
        # botocore leaves the name to urllib3, which is not here.
        context.check_hostname = bool(self._verify)
        return context

    def _setup_proxy_ssl_context(self, proxy_url: str) -> ssl.SSLContext:
        # aiobotocore 2 has one context for the proxy and for who is behind it: the proxy's own
        # authority is trusted only where the proxy itself speaks TLS.
        context: ssl.SSLContext | None = None
        if urlsplit(proxy_url).scheme == "https":
            context = super()._setup_proxy_ssl_context(proxy_url)
        return context or self._get_ssl_context()


class OneAttemptSession(VerifiedSession):
    """The same, and each request is sent once."""

    async def _get_session(self, proxy_url: str | None) -> _Straight:
        session = await super()._get_session(proxy_url)
        # No public switch as of aiohttp 3.14; a test counts the requests that arrive.
        session._retry_connection = False
        return _Straight(session)


class _Straight:
    """A session of aiohttp's that follows no redirect: botocore asks S3's rules instead."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, *arguments: Any, **options: Any) -> Any:
        return await self._session.request(*arguments, **{**options, "allow_redirects": False})
