"""The Run's own credentials for our clients: asked for at each request, refreshed by their owner.

However the user's boto3 session came by its credentials (a role, single sign-on, an instance's
profile, keys in the code), it refreshes them itself. Copying them once would lose that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError

from asynctrack._offload import offload


class DelegatedCredentials(AioCredentials):  # type: ignore[misc]  # aiobotocore has no types
    """aiobotocore's view of synchronous credentials.

    Args:
        provider: Returns botocore's credentials object, or None where there are none (yet); may
            block.
    """

    def __init__(self, provider: Callable[[], Any]) -> None:
        super().__init__("", "", method="asynctrack-delegated")
        self._provider = provider
        self._credentials: Any = None

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the credentials of this moment.

        Raises:
            NoCredentialsError: There are none; the next call looks again.
        """
        if self._credentials is None:
            self._credentials = await offload(self._provider)
        if self._credentials is None:
            raise NoCredentialsError()
        # Those with an expiry may ask the network for new ones, which blocks.
        if hasattr(self._credentials, "refresh_needed") and self._credentials.refresh_needed():
            frozen = await offload(self._credentials.get_frozen_credentials)
        else:
            frozen = self._credentials.get_frozen_credentials()
        return ReadOnlyCredentials(frozen.access_key, frozen.secret_key, frozen.token)


def delegate_credentials(session: AioSession, provider: Callable[[], Any]) -> None:
    """Make a session sign with the credentials that a function returns.

    Args:
        session: A fresh session.
        provider: Returns botocore's credentials object, or None; may block.
    """
    session.register_component("credential_provider", _Resolver(DelegatedCredentials(provider)))


class _Resolver:
    def __init__(self, credentials: DelegatedCredentials) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> DelegatedCredentials:
        return self._credentials
