"""Who may ask, and what a browser may do with the answer (pure, but for the token's randomness).

The pages show what strangers wrote to the one user of this machine who started the viewer. So:
only this machine is listened to; the address holds a token, which becomes a cookie that no script
and no other site can use; a name of a host that is not this machine's is refused, since a site can
point its own name here (DNS rebinding); nothing can be changed; and the browser is told to run
nothing but the scripts that are shipped, to frame, store and pass on nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final

METHODS: Final = ("GET", "HEAD")

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

IMAGE_POLICY: Final = "default-src 'none'; sandbox"
"""For an image, which is nothing but pixels: whatever else its bytes may mean, it runs nowhere."""

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), clipboard-read=()",
    "X-DNS-Prefetch-Control": "off",
    "X-Robots-Tag": "noindex",
}

# Another port is fine: behind `ssh -L` the browser's port is another one.
_HOST: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")
_LONGEST: Final = 4_096
_KEPT: Final = 400 * 24 * 3600
"""Seconds that a browser keeps the cookie of a token that is kept; none keeps it longer."""


class Guard:
    """Decides who may ask.

    Args:
        kept: A token that is kept: everything else follows from it, so that an address that was
            opened once is good whenever the viewer runs. None makes one that ends with it.

    Attributes:
        place: The folder below which everything lies: a cookie is sent to any port of this
            machine, but only below its own folder, and nobody else knows this one.
        token: What the address must hold once.
    """

    def __init__(self, kept: str | None = None) -> None:
        self.token = kept or secrets.token_urlsafe(24)
        # Neither says anything of the token, or of the other.
        self.place = f"/{self._derived('place')[:12]}/"
        self._cookie = self._derived("cookie")
        self._kept = kept is not None

    def refuse(
        self, method: str, path: str, headers: Mapping[str, list[str]]
    ) -> tuple[int, str] | None:
        """Return why a request is refused whoever sends it, as a status and a text; or None.

        Args:
            method: Its method.
            path: Its path, decoded.
            headers: All values of each header, by names in lower case.
        """
        if method not in METHODS:
            return 405, "Only GET and HEAD: nothing can be changed here."
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            return 421, "This address belongs to another host."
        origins = headers.get("origin", [])
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            return 403, "Requests of other sites are refused."
        if not path.startswith(self.place) or ".." in path or "\\" in path or "\0" in path:
            return 404, "There is nothing here."
        return None

    def refuse_site(self, headers: Mapping[str, list[str]]) -> tuple[int, str] | None:
        """Return why a request is refused that another site made the browser send; or None."""
        if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
            return 403, "Requests of other sites are refused."
        return None

    def is_token(self, given: str) -> bool:
        """Tell whether this is the token."""
        return secrets.compare_digest(given[:_LONGEST].encode(), self.token.encode())

    def knows(self, headers: Mapping[str, list[str]]) -> bool:
        """Tell whether a request has the cookie."""
        for header in headers.get("cookie", []):
            cookies = SimpleCookie()
            try:
                cookies.load(header[:_LONGEST])
            except CookieError:
                continue
            found = cookies.get(self.cookie_name)
            if found is not None and secrets.compare_digest(
                found.value.encode(), self._cookie.encode()
            ):
                return True
        return False

    @property
    def cookie_name(self) -> str:
        """The cookie's name."""
        return "asynctrack_view"

    def set_cookie(self) -> str:
        """Return the value of the header that sets the cookie."""
        age = f"; Max-Age={_KEPT}" if self._kept else ""
        return (
            f"{self.cookie_name}={self._cookie}; Path={self.place}; HttpOnly; SameSite=Strict{age}"
        )

    def _derived(self, what: str) -> str:
        digest = hmac.digest(self.token.encode(), what.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
