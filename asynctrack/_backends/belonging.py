"""Where the events of a Run belong, as far as it is known, and who may deliver them: decisions.

A description is written before the first event is accepted, when nothing has been asked yet: the
account's default bucket has no name then (``default``), and where the Run has made no client of
S3, nobody knows its address (``endpoint_url`` is left out; None says that it is AWS's own).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asynctrack._backends.run import RunTarget
from asynctrack._backends.way import Way, store_of


def place_of(target: RunTarget, bucket: str | None, prefix: str | None) -> tuple[str | None, str]:
    """Return bucket and prefix of a Run's events, as far as they are known. Asks no network.

    Args:
        target: The Run.
        bucket: Bucket that takes the place of the Run's, or None.
        prefix: Prefix that takes the place of the Run's, or None.

    Returns:
        The bucket's name is None where it is the account's default one, whose name nobody has
        asked for yet.
    """
    found, usual = bucket or target.bucket, target.prefix
    if found is None:
        found, usual = target.known_default_bucket, target.default_prefix
    return found, usual if prefix is None else prefix


def is_default(target: RunTarget, bucket: str | None) -> bool:
    """Tell whether a Run's events belong into the account's default bucket, as the SDK names it.

    Args:
        target: The Run.
        bucket: Bucket that takes the place of the Run's, or None.
    """
    return (
        bucket is None
        and target.bucket is None
        and target.named_default_bucket is None
        and target.has_sdks_default_bucket
    )


def description(
    target: RunTarget,
    *,
    bucket: str | None,
    root: str,
    default: bool,
    way: Way | None,
    reached: bool,
) -> dict[str, Any]:
    """Return where a Run's events belong, as plain data without secrets.

    Args:
        target: The Run.
        bucket: The bucket's name, where it is known.
        root: The Run's folder in it.
        default: Whether it is the account's default bucket.
        way: How S3 is reached, where it is known.
        reached: Whether anything ever got there.
    """
    found: dict[str, Any] = {
        "kind": "s3",
        "bucket": bucket,
        "root": root,
        "run": target.address,
        "profile": target.profile,
        "reached": reached,
    }
    if default:
        found["default"] = True
    if way is None:
        if target.sagemaker is None:
            return found  # nobody knows the region before the client is made
        # SageMaker's own client is there from the start, and the session gives both one region.
        return {**found, "region": getattr(target.sagemaker.meta, "region_name", None)}
    return {**found, "region": way.region, "endpoint_url": way.endpoint_url}


def belongs(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Tell whether what another writer left may be sent to our S3: to its own, and no other.

    A writer that never got anything anywhere may have had the wrong address: its events go where
    the same Run goes now.

    Args:
        theirs: Its description.
        ours: Our own, which is complete.
    """
    if theirs.get("kind") != "s3":
        return False
    there, here = (store_of(one.get("endpoint_url"), one.get("region")) for one in (theirs, ours))
    if not (theirs.get("bucket") or theirs.get("default")):
        # Left by a version that said nothing before it had asked for the default bucket.
        return there == here and theirs.get("region") == ours["region"]
    at_ours = there == here if "endpoint_url" in theirs else _is_same_account(theirs, ours)
    if is_nameless(theirs):
        # An account's bucket has the account's number in its name, and the region's.
        if at_ours and _is_same_account(theirs, ours):
            return True
        same_bucket = bool(ours.get("default"))
    else:
        if at_ours:
            return True
        same_bucket = theirs.get("bucket") == ours["bucket"]
    same_run = all(theirs.get(name) == ours[name] for name in ("run", "root"))
    return same_run and same_bucket and theirs.get("reached") is False


def is_nameless(destination: Mapping[str, Any]) -> bool:
    """Tell whether a writer's events belong into an account's default bucket that it had not asked
    the name of."""
    return bool(destination.get("default")) and not destination.get("bucket")


def _is_same_account(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Tell whether both have the same AWS, as far as can be told without asking it: the same
    SageMaker (or S3, without a Run), region if it is told, and profile."""
    one, other = (str(each.get("run") or "").rpartition("/")[0] for each in (theirs, ours))
    return (
        one == other != ""
        and theirs.get("region", ours["region"]) == ours["region"]
        and theirs.get("profile") == ours.get("profile")
    )
