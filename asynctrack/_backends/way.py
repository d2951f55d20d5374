"""How a client of the user's reaches its service, so that one of ours reaches it alike.

The Run's own client is what works: somebody has set its profile, region, endpoint, proxy,
certificates and addressing, in one of a dozen places. Looking these places up once more would find
something else sooner or later. So they are read off the client that came of them, for ours.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from asynctrack._backends.identity import frozen

_OURS: Final = frozenset(
    {
        # Given beside the others, or asynctrack's own: see ``Way.config``.
        "region_name", "connect_timeout", "read_timeout", "max_pool_connections", "retries",
        # Already in what was read off the client.
        "ignore_configured_endpoint_urls", "defaults_mode",
        "user_agent",  # the client's holds what botocore adds to it
    }
)  # fmt: skip
_USUAL_SIGNATURES: Final = frozenset({"s3v4", "v4"})
"""What a client says when nobody has chosen: asking for it would forbid the others."""
_AWS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


@dataclass(frozen=True, slots=True)
class Way:
    """How a service is reached.

    Attributes:
        region: AWS region, or None.
        endpoint_url: The address that somebody chose; None where AWS's own rules make it.
        verify: Whether certificates are checked, or the file of those that are trusted; None where
            the environment says.
        options: Everything else, as arguments of botocore's ``Config``.
    """

    region: str | None
    endpoint_url: str | None
    verify: bool | str | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def config(self, **ours: Any) -> dict[str, Any]:
        """Return the arguments of a ``Config`` that goes this way.

        Args:
            **ours: What is asynctrack's to say: time limits, attempts, connections.
        """
        # Both are settled here already: neither the environment nor a profile has a say again.
        settled = {"ignore_configured_endpoint_urls": True, "defaults_mode": "legacy"}
        return {**self.options, **settled, **ours}

    @property
    def identity(self) -> Hashable:
        """What is equal for ways that are the same. Holds what the options hold, also a secret."""
        return self.region, self.endpoint_url, frozen(self.verify), frozen(self.options)

    @property
    def store(self) -> str:
        """What a bucket's name is unique in: an endpoint of the user's, or a part of AWS."""
        return store_of(self.endpoint_url, self.region)


def way_of(client: Any) -> Way:
    """Read how a client of botocore's reaches its service. Asks no network, blocks for nothing.

    Args:
        client: Any client of boto3's or botocore's; of what else has an address, the address.
    """
    config, rules = getattr(client.meta, "config", None), _rules(client)
    options = {
        name: value
        for name, usual in getattr(config, "OPTION_DEFAULTS", {}).items()
        if name not in _OURS and (value := getattr(config, name, usual)) not in (None, usual)
    }
    if options.get("signature_version") in _USUAL_SIGNATURES:
        del options["signature_version"]
    agent = getattr(config, "_supplied_user_agent", None)
    if agent:
        options["user_agent"] = agent
    for option, rule in (
        ("use_fips_endpoint", "AWS::UseFIPS"),
        ("use_dualstack_endpoint", "AWS::UseDualStack"),
    ):
        if rules.get(rule):
            options[option] = True
    return Way(
        region=getattr(client.meta, "region_name", None),
        endpoint_url=rules.get("SDK::Endpoint") if rules else _chosen(client.meta.endpoint_url),
        verify=_verified_by(client),
        options=options,
    )


def store_of(endpoint_url: Any, region: Any) -> str:
    """Return what a bucket's name is unique in.

    A bucket's name is unique in all regions of a partition of AWS ("General purpose bucket naming
    rules" in the S3 User Guide). Of any other endpoint nothing is known but its address.

    Args:
        endpoint_url: The address that somebody chose, or None.
        region: AWS region, or None.
    """
    if isinstance(endpoint_url, str) and _chosen(endpoint_url):
        return _host(endpoint_url)
    parts = str(region or "").split("-")
    return "aws" if len(parts) <= 3 and parts[0] != "cn" else f"aws-{'-'.join(parts[:-2])}"


def _host(url: str) -> str:
    """Return host and port, as one text for one place."""
    try:
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return url
    host = parts.hostname or ""
    return f"{'127.0.0.1' if host == 'localhost' else host}:{port}"


def _chosen(address: str | None) -> str | None:
    """Return an address that is none of AWS's own."""
    try:
        host = urlsplit(address or "").hostname or ""
    except ValueError:
        return address
    return None if host.endswith(_AWS) else address


def remember_endpoint(s3: Any) -> None:
    """Let a client of ours find its endpoint once for each bucket, and not anew for each object.

    botocore remembers what its rules have said by all of their parameters, and the key is one of
    them, of which no rule asks: a tenth of the time that a request takes.
    """
    rules = getattr(s3, "_ruleset_resolver", None)
    parameters = getattr(rules, "_param_definitions", None)
    if isinstance(parameters, dict):
        parameters.pop("Key", None)


# botocore keeps these two to itself. Where a version of it has them elsewhere, what anybody can see
# takes their place: an address that is not AWS's own, the certificates that the environment names.


def _rules(client: Any) -> Mapping[str, Any]:
    """Return what the client's endpoint rules start from."""
    found = getattr(getattr(client, "_ruleset_resolver", None), "_builtins", None)
    return found if isinstance(found, Mapping) else {}


def _verified_by(client: Any) -> bool | str | None:
    http = getattr(getattr(client, "_endpoint", None), "http_session", None)
    verify = getattr(http, "_verify", None)
    return verify if isinstance(verify, (bool, str)) else None
