"""The Run's own credentials for our clients: asked for at each request, refreshed by their owner.

However the user's boto3 session came by its credentials (a role, single sign-on, an instance's
profile, keys in the code), it refreshes them itself. Copying them once would lose that.

What it never does is look again at keys that it found in a file or in the environment, and that
somebody else replaces there. It is asked to, by the same providers in the same order, when the
service has refused them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError

from asynctrack._common.offload import offload

OUTDATED: Final = frozenset(
    {
        "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId",
        "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)  # fmt: skip
"""Codes of errors for which the credentials may be older than what their place holds now."""
_REPLACEABLE: Final = frozenset({"config-file", "custom-process", "env", "shared-credentials-file"})
"""botocore's names of the providers that look only once. Keys in the code have another: they are
nobody's to replace."""


class DelegatedCredentials(AioCredentials):  # type: ignore[misc]  # aiobotocore has no types
    """aiobotocore's view of synchronous credentials.

    Args:
        provider: Returns botocore's credentials object, or None where there are none (yet); may
            block.
        look_again: Returns the ones that a new session would find; may block.
    """

    def __init__(self, provider: Callable[[], Any], look_again: Callable[[], Any]) -> None:
        super().__init__("", "", method="asynctrack-delegated")
        self._provider = provider
        self._look_again = look_again
        self._credentials: Any = None
        self._refused = False

    def refused(self, code: str) -> None:
        """Note an error: where they may have been replaced, they are looked up anew.

        Args:
            code: The service's error code.
        """
        self._refused = self._refused or code in OUTDATED

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the credentials of this moment.

        Raises:
            NoCredentialsError: There are none; the next call looks again.
        """
        if self._credentials is None:
            self._credentials = await offload(self._provider)
        if self._credentials is None:
            raise NoCredentialsError()
        if self._refused:
            self._refused = False
            if not self._refreshed and self._credentials.method in _REPLACEABLE:
                self._credentials = await offload(self._look_again) or self._credentials
        # Those with an expiry may ask the network for new ones, which blocks.
        if self._refreshed and self._credentials.refresh_needed():
            frozen = await offload(self._credentials.get_frozen_credentials)
        else:
            frozen = self._credentials.get_frozen_credentials()
        return ReadOnlyCredentials(frozen.access_key, frozen.secret_key, frozen.token)

    def sign_for(self, session: AioSession) -> None:
        """Make a fresh session sign with these."""
        session.register_component("credential_provider", _Resolver(self))

    @property
    def _refreshed(self) -> bool:
        """Whether they know when they expire, and who gives new ones."""
        return hasattr(self._credentials, "refresh_needed")


class _Resolver:
    def __init__(self, credentials: DelegatedCredentials) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> DelegatedCredentials:
        return self._credentials
