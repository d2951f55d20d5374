"""The one adapter to SageMaker's ``Run``: what we need of it, taken by what it offers.

Nothing here imports sagemaker: that takes seconds and reconfigures the root logger. The names are
those that sagemaker 2.254 (``sagemaker.experiments.run``) and 3.x (``sagemaker.core.experiments``)
share; a missing one is a ``RunError`` that names it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from asynctrack._artifact import Written
from asynctrack._errors import RunError

logger = logging.getLogger("asynctrack")


@dataclass(frozen=True, slots=True)
class RunTarget:
    """Where a Run's data goes, and with whose credentials.

    Attributes:
        experiment: The experiment's name.
        run: The Run's name.
        trial_component: The Run's trial component's name.
        bucket: The Run's artifact bucket, or None for the session's default bucket.
        prefix: The Run's artifact prefix.
        session: SageMaker's session, for what has to be asked over the network.
        credentials: Returns botocore's credentials, or None; may block.
        region: AWS region.
        s3_endpoint: URL of S3.
        sagemaker_endpoint: URL of SageMaker.
        metrics_endpoint: URL of SageMaker's metrics.
        path_style: Whether the Run's S3 client addresses buckets by path.
    """

    experiment: str
    run: str
    trial_component: str
    bucket: str | None
    prefix: str
    session: Any
    credentials: Callable[[], Any]
    region: str | None
    s3_endpoint: str | None
    sagemaker_endpoint: str
    metrics_endpoint: str
    path_style: bool

    def model_loader(self) -> Any:
        """Return the loader of service models that the Run's clients were made with, or None.

        It holds what has been parsed already: megabytes of JSON, and most of a second.
        """
        try:
            return self.session.boto_session._session.get_component("data_loader")
        except Exception:
            return None  # another kind of session: ours is as good, and only slower

    def default_bucket(self) -> tuple[str, str]:
        """Return the session's default bucket and the prefix in it. Blocks: asks the network."""
        bucket = str(self.session.default_bucket())
        parts = (getattr(self.session, "default_bucket_prefix", None), self.prefix)
        return bucket, "/".join(part.strip("/") for part in parts if part)


def read_run(run: Any) -> RunTarget:
    """Read what tracking needs from a Run. Asks no network, blocks for nothing.

    Args:
        run: A ``Run`` of sagemaker 2.x or 3.x, or what offers the same.

    Raises:
        RunError: It lacks something.
    """
    uploader = _get(run, "_artifact_uploader")
    session = _get(uploader, "sagemaker_session")
    boto_session = _get(session, "boto_session")
    s3 = getattr(uploader, "_s3_client", None)
    s3_options = getattr(getattr(getattr(s3, "meta", None), "config", None), "s3", None) or {}
    config = _get(run, "experiment_config")
    try:
        trial_component = str(config["RunName"])
    except (KeyError, TypeError) as error:
        raise _unfit(run, "experiment_config['RunName']") from error
    return RunTarget(
        experiment=str(_get(run, "experiment_name")),
        run=str(_get(run, "run_name")),
        trial_component=trial_component,
        bucket=_get(uploader, "artifact_bucket"),
        prefix=str(_get(uploader, "artifact_prefix") or "").strip("/"),
        session=session,
        credentials=_get(boto_session, "get_credentials"),
        region=getattr(boto_session, "region_name", None),
        s3_endpoint=None if s3 is None else s3.meta.endpoint_url,
        sagemaker_endpoint=_get(session, "sagemaker_client").meta.endpoint_url,
        metrics_endpoint=_get(session, "sagemaker_metrics_client").meta.endpoint_url,
        path_style=s3_options.get("addressing_style") == "path",
    )


def looks_like_run(value: Any) -> bool:
    """Tell whether a value offers what a Run does, as far as a look can tell."""
    return hasattr(value, "experiment_config") and hasattr(value, "run_name")


def mirror_parameters(run: Any, written: Iterable[Written]) -> None:
    """Bring what was written into the Run's own copy, where that has an older value.

    ``Run.__exit__`` sends its whole local copy of the parameters. A key that is in there with the
    value it had before would undo ours. One that the user has given another value since is newer
    than ours, and stays. Only values of keys that are there are changed, so that a thread that
    walks the same dictionary is not disturbed.

    Args:
        run: The Run.
        written: What was written, oldest first.
    """
    try:
        local = run._trial_component.parameters
        for one in written:
            if one.key in local and _same(local[one.key], one.before):
                local[one.key] = one.value
    except Exception as error:
        logger.warning(
            "asynctrack could not bring its parameters into the Run object (%s); where Run and"
            " handler logged the same name, the Run's value will be kept.",
            type(error).__name__,
        )


def local_parameters(run: Any) -> Mapping[str, Any]:
    """Return the Run's own copy of the parameters, which it sends when it ends; not to be changed.

    Another thread may change it at any time: look up single keys only.
    """
    local = getattr(getattr(run, "_trial_component", None), "parameters", None)
    return local if isinstance(local, dict) else {}


def local_parameter_names(run: Any) -> frozenset[str]:
    """Return the names in the Run's own copy."""
    # One call into C with no Python in between: no other thread gets in its way.
    return frozenset(map(str, list(local_parameters(run))))


def _same(first: Any, second: Any) -> bool:
    try:
        return first is second or bool(first == second)
    except Exception:
        return False  # values of which nobody can say so


def _get(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name)
    except AttributeError as error:
        raise _unfit(holder, name) from error


def _unfit(holder: Any, name: str) -> RunError:
    kind = type(holder)
    return RunError(
        f"cannot track into this {kind.__module__}.{kind.__qualname__}: it has no {name!r}."
        " Pass a Run of sagemaker.experiments.run (2.x) or sagemaker.core.experiments.run (3.x),"
        " or a folder."
    )
