"""aiohttp for our clients, without the attempt it makes by itself.

aiohttp sends a request a second time when a kept connection turns out to be closed, below botocore
and whatever its ``retries`` say. There is one retry layer, ``_retry``, and it sees every attempt.
"""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class OneAttemptSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """aiobotocore's HTTP session; each request is sent once."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        # No public switch as of aiohttp 3.14; a test counts the requests that arrive.
        session._retry_connection = False
        return session
