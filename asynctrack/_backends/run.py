"""The one adapter to SageMaker's ``Run``: what we need of it, taken by what it offers.

Nothing here imports sagemaker: that takes seconds and reconfigures the root logger. The names are
those that sagemaker 2.254 (``sagemaker.experiments.run``) and 3.x (``sagemaker.core.experiments``)
share; a missing one is a ``RunError`` that names it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from asynctrack._errors import RunError, TransientError

if TYPE_CHECKING:  # read in the user's event loop: nothing is imported that is not needed there
    from asynctrack._common.artifact import Written

logger = logging.getLogger("asynctrack")

_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RunTarget:
    """Where a Run's data goes, and with whose credentials.

    Attributes:
        experiment: The experiment's name.
        run: The Run's name.
        trial_component: The Run's trial component's name.
        bucket: The Run's artifact bucket (a name, or an access point's ARN), or None for the
            session's default bucket.
        prefix: The Run's artifact prefix.
        session: SageMaker's session, for what has to be asked over the network.
        s3: The boto3 client that the Run uploads with, or None where it has none yet.
        sagemaker: The boto3 client of SageMaker; None where there is no Run of its own.
        metrics: The boto3 client of SageMaker's metrics, likewise.
    """

    experiment: str
    run: str
    trial_component: str
    bucket: str | None
    prefix: str
    session: Any
    s3: Any
    sagemaker: Any
    metrics: Any

    @property
    def address(self) -> str:
        """Which trial component, of which SageMaker; of another Run what stands for it."""
        if self.sagemaker is None:
            return self.trial_component
        return f"{self.sagemaker.meta.endpoint_url}/{self.trial_component}"

    def s3_client(self) -> Any:
        """Return the Run's S3 client, or make it as the SDK does. May block."""
        return self.s3 if self.s3 is not None else self.session.boto_session.client("s3")

    def credentials(self) -> Any:
        """Return botocore's credentials object, or None. May block."""
        return self.session.boto_session.get_credentials()

    def credentials_at_hand(self) -> Any:
        """Return botocore's credentials object where the session has found it already, or None.

        Blocks for nothing. A session has it from its first client on.
        """
        mine, below = self.session.boto_session, self._botocore_session()
        own = (
            getattr(getattr(one, "get_credentials", None), "__func__", None)
            for one in (mine, below)
        )
        # Somebody may have put a provider of his own in its place.
        if [getattr(one, "__module__", "") for one in own] != ["boto3.session", "botocore.session"]:
            return None
        return getattr(below, "_credentials", None)

    def credentials_anew(self) -> Any:
        """Return what a new session would find, by the same providers, or None. May block."""
        botocore_session = self._botocore_session()
        if botocore_session is None:
            return None
        return botocore_session.get_component("credential_provider").load_credentials()

    def lend(self, session: Any) -> None:
        """Give another session of botocore's what this one has read: its settings and models.

        The profile, the files it comes from and the variables of the environment are those of the
        Run's own session then. The loader holds what has been parsed already: megabytes of JSON,
        and most of a second.

        Args:
            session: A fresh session.
        """
        theirs = self._botocore_session()
        for component in ("config_store", "data_loader"):
            with suppress(Exception):  # another kind of session: a fresh one looks where it does
                session.register_component(component, theirs.get_component(component))

    def _botocore_session(self) -> Any:
        return getattr(self.session.boto_session, "_session", None)

    @property
    def profile(self) -> str | None:
        """Name of the session's profile, or None. Blocks for nothing."""
        name = getattr(self.session.boto_session, "profile_name", None)
        return name if isinstance(name, str) else None

    @property
    def has_sdks_default_bucket(self) -> bool:
        """Whether the default bucket is the SDK's idea: a session of the user's may have its own,
        of which nobody but that session knows."""
        found = getattr(getattr(self.session, "default_bucket", None), "__module__", None)
        return isinstance(found, str) and found.partition(".")[0] == "sagemaker"

    @property
    def named_default_bucket(self) -> str | None:
        """The session's default bucket, where somebody has named it; None where it is the
        account's. Asks no network."""
        name = getattr(self.session, "_default_bucket_name_override", None)
        return name if isinstance(name, str) and name else None

    @property
    def known_default_bucket(self) -> str | None:
        """The session's default bucket, where it has been named or asked for. Asks no network."""
        name = getattr(self.session, "_default_bucket", None)
        return name if isinstance(name, str) and name else self.named_default_bucket

    @property
    def default_prefix(self) -> str:
        """The prefix in the session's default bucket: as the SDK, the session's goes with it, and
        only with it."""
        parts = (getattr(self.session, "default_bucket_prefix", None), self.prefix)
        return "/".join(part.strip("/") for part in parts if part)

    def default_bucket(self) -> tuple[str, str]:
        """Return the session's default bucket and the prefix in it. Blocks: asks the network."""
        return str(self.session.default_bucket()), self.default_prefix

    def account_bucket(self) -> str:
        """Return the name of the account's default bucket. Blocks: asks STS.

        Other than the SDK it makes no bucket, and asks for none.

        Raises:
            TransientError: What answered is not STS.
            Exception: Whatever boto3 raises.
        """
        session = self.session.boto_session
        if callable(ask := getattr(self.session, "account_id", None)):
            return account_bucket_name(session.region_name, ask())
        sts = session.client("sts", region_name=session.region_name)
        return account_bucket_name(session.region_name, sts.get_caller_identity().get("Account"))


def read_run(run: Any) -> RunTarget:
    """Read what tracking needs from a Run. Asks no network, blocks for nothing.

    Args:
        run: A ``Run`` of sagemaker 2.x or 3.x, or what offers the same.

    Raises:
        RunError: It lacks something.
    """
    uploader = _get(run, "_artifact_uploader")
    session = _get(uploader, "sagemaker_session")
    _get(_get(session, "boto_session"), "get_credentials")
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
        s3=getattr(uploader, "_s3_client", None),
        sagemaker=_client(session, "sagemaker_client"),
        metrics=_client(session, "sagemaker_metrics_client"),
    )


def account_bucket_name(region: Any, account: Any) -> str:
    """Return the name that the SDK gives to an account's default bucket.

    Args:
        region: AWS region.
        account: The account's number, as STS says it.

    Raises:
        TransientError: It is no account's number: what answered is not STS.
    """
    if not (isinstance(account, str) and _ACCOUNT.fullmatch(account)):
        raise TransientError(
            "NotSTS", "what answered is not STS: it names no account", answered=True
        )
    return f"sagemaker-{region}-{account}"


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


def _client(session: Any, name: str) -> Any:
    client = _get(session, name)
    _get(_get(client, "meta"), "endpoint_url")
    return client


def _unfit(holder: Any, name: str) -> RunError:
    kind = type(holder)
    return RunError(
        f"cannot track into this {kind.__module__}.{kind.__qualname__}: it has no {name!r}."
        " Pass a Run of sagemaker.experiments.run (2.x) or sagemaker.core.experiments.run (3.x),"
        " or a folder."
    )
