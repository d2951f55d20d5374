"""Reading from AWS: objects in S3, and where SageMaker says that a Run's events are.

boto3's clients are safe to use from several threads, which is how reads overlap here. botocore's
retries are off: a connection that breaks while a body is read is beyond them, so that the one
retry layer is ours.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from asynctrack._backends import acknowledge
from asynctrack._backends.aws_errors import map_error
from asynctrack._backends.library import require_boto3
from asynctrack._backends.protocol import GoneError, StoredObject
from asynctrack._backends.run import account_bucket_name, read_run
from asynctrack._backends.s3_put import put_object
from asynctrack._backends.way import Way, way_of
from asynctrack._errors import (
    BackendError,
    NotFoundError,
    PausingError,
    ReadError,
    TransientError,
)
from asynctrack._format import ACCESS_POINT, run_prefix

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 30.0
"""Seconds for connecting and for each read."""
ATTEMPTS: Final = 6
BACKOFF: Final = 0.2
MAX_BACKOFF: Final = 5.0
"""The longest wait before the second attempt, and before any, in seconds."""
CONNECTIONS: Final = 16

_T = TypeVar("_T")

_EVENTS = re.compile(r"asynctrack\.events(?:\.\d+)?")
_TOLD: Final = frozenset(
    {"AccessDenied", "CertificateError", "NotS3", "NotSageMaker", "ProxyConnectionError"}
)
_ACCESS: Final = (
    "Reading takes s3:GetObject and s3:ListBucket (asynctrack guide permissions), and of a bucket"
    " whose reader pays s3_options={'RequestPayer': 'requester'}, or --request-payer requester."
)
_GONE = frozenset({"NoSuchKey", "404", "NotFound"})


@dataclass(frozen=True, slots=True)
class Access:
    """With what S3 and SageMaker are asked.

    Attributes:
        endpoint_url: Where, instead of AWS's own address.
        profile: Profile of the AWS configuration.
        region: AWS region.
        session: A ``boto3.Session`` to use instead of a new one.
        way: How a client of that session's reaches S3, to reach it alike; instead of the others.
        s3_options: Further arguments of requests to S3, by AWS's names, as ``RequestPayer``: each
            request takes those that it knows.
    """

    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    session: Any = None
    way: Way | None = None
    s3_options: Mapping[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """Return a boto3 client. Blocks: reads files, and parses for a third of a second.

        Raises:
            BackendError: The profile does not exist, or something else boto3 does not take.
            MissingExtraError: boto3 is not installed.
        """
        require_boto3()
        import boto3
        from botocore.config import Config

        options: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "max_pool_connections": CONNECTIONS,
        }
        way = self.way or Way(self.region, self.endpoint_url, None)
        try:
            session = self.session or boto3.Session(
                profile_name=self.profile, region_name=self.region
            )
            client = session.client(
                service,
                endpoint_url=way.endpoint_url,
                region_name=way.region,
                verify=way.verify,
                config=Config(**(options if self.way is None else way.config(**options))),
            )
        except Exception as error:
            raise map_error(error) from error
        if self.s3_options:
            client.meta.events.register("provide-client-params.s3", self._add_options)
        acknowledge.listen(client.meta.events)
        # Last of all, as botocore's own handler asks for the checksum.
        client.meta.events.register_last("before-parameter-build", _expect_no_checksum_of_a_part)
        return client

    def _add_options(self, params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
        known = model.input_shape.members if model.input_shape is not None else {}
        options = {name: value for name, value in self.s3_options.items() if name in known}
        return {**options, **params}


def _expect_no_checksum_of_a_part(params: dict[str, Any], **_: Any) -> None:
    """Some servers answer a ranged request with the checksum of the whole object."""
    if "Range" in params:
        params.pop("ChecksumMode", None)


class S3Store:
    """A bucket.

    Args:
        client: boto3's S3 client.
        bucket: The bucket's name.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    @property
    def s3(self) -> str:
        """What the bucket's name is unique in."""
        return way_of(self._client).store

    def folders(self, prefix: str) -> list[str]:
        """Return the common prefixes right below a prefix."""
        pages = self._pages(Prefix=prefix, Delimiter="/")
        return sorted(
            str(entry["Prefix"]) for page in pages for entry in page.get("CommonPrefixes", ())
        )

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects below a prefix."""
        for page in self._pages(Prefix=prefix):
            for entry in page.get("Contents", ()):
                yield StoredObject(str(entry["Key"]), int(entry["Size"]))

    def read(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            GoneError: It is not there.
            BackendError: S3 said no, or could not be reached in several attempts.
        """

        def attempt() -> bytes:
            body = self._get(key)
            with body:  # not "as": that is the stream below, which compares no checksum
                return bytes(body.read())

        return self._there(key, attempt)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return some of an object's bytes, with one ranged request; see ``read``."""

        def attempt() -> bytes:
            body = self._get(key, Range=f"bytes={start}-{end - 1}")
            with body:
                content = bytes(body.read())
            if len(content) != end - start:
                raise ReadError(f"{self.uri(key)} is shorter than {end} bytes")
            return content

        if end <= start:
            return b""
        return self._there(key, attempt)

    def write(self, key: str, content: Path | bytes) -> None:
        """Store an object with one PutObject: bytes, or what is in a file.

        Raises:
            BackendError: S3 said no, or did not say in several attempts that it is stored.
        """

        def attempt() -> None:
            if isinstance(content, bytes):
                put_object(self._client, self._bucket, key, content)
                return
            with content.open("rb") as file:
                put_object(self._client, self._bucket, key, file)

        self._retried(attempt)

    def remove(self, key: str) -> None:
        """Delete an object."""
        self._retried(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    def uri(self, key: str) -> str:
        """Return an object's ``s3://`` address."""
        return f"s3://{self._bucket}/{key}"

    def _get(self, key: str, **options: Any) -> Any:
        answer = self._client.get_object(Bucket=self._bucket, Key=key, **options)
        try:
            acknowledge.require_object(answer)
        except TransientError:
            answer["Body"].close()
            raise
        return answer["Body"]

    def _there(self, key: str, attempt: Callable[[], bytes]) -> bytes:
        try:
            return self._retried(attempt)
        except PausingError as error:
            if error.code in _GONE:
                raise GoneError(f"{self.uri(key)} is not there any more") from error
            raise

    def _pages(self, **request: Any) -> Iterator[Any]:
        token: dict[str, str] = {}
        while True:
            arguments = {"Bucket": self._bucket, **request, **token}
            page = self._retried(lambda: self._list(arguments))  # noqa: B023  # called at once
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _retried(self, attempt: Callable[[], _T]) -> _T:
        """Return what an attempt returns; an error names the bucket."""
        try:
            return with_retries(attempt)
        except BackendError as error:
            if error.code == "NoSuchBucket":
                raise NotFoundError(
                    f"there is no bucket {self._bucket!r} where was asked: check its name, the"
                    " endpoint (--endpoint-url, AWS_ENDPOINT_URL) and the AWS account"
                ) from error
            error.args = (f"s3://{self._bucket}: {error}",)
            raise

    def _list(self, arguments: dict[str, str]) -> Any:
        page = self._client.list_objects_v2(**arguments)
        acknowledge.require_listing(page)
        return page


@dataclass(frozen=True, slots=True)
class RecordedRunState:
    """What SageMaker holds of a Run.

    Attributes:
        parameters: All parameters of the Run, the user's own as well.
        events: ``s3://`` addresses of its events, one for each place they were tracked into.
    """

    parameters: dict[str, Any]
    events: tuple[str, ...]


def ask_for_run(client: Any, trial_component: str) -> RecordedRunState:
    """Ask SageMaker for a Run.

    Args:
        client: boto3's SageMaker client.
        trial_component: The Run's trial component's name.

    Raises:
        NotFoundError: SageMaker does not know it.
        BackendError: SageMaker said no.
    """
    try:
        answer = with_retries(
            lambda: _asked(
                client.describe_trial_component,
                "TrialComponentArn",
                TrialComponentName=trial_component,
            ),
            recording=True,
        )
    except BackendError as error:
        if _is_unknown(error):
            raise NotFoundError(
                f"SageMaker knows no Run with the trial component {trial_component!r}; for a"
                " folder or a prefix, say where: --root PLACE, or"
                " open_run((experiment, run), root=...)"
            ) from error
        raise
    parameters = {
        str(key): value.get("NumberValue", value.get("StringValue"))
        for key, value in (answer.get("Parameters") or {}).items()
    }
    found = [value for key, value in parameters.items() if _EVENTS.fullmatch(key)]
    found += [
        item.get("Value")
        for key, item in (answer.get("OutputArtifacts") or {}).items()
        if _EVENTS.fullmatch(key)
    ]
    # Anybody may write into the Run: only what is an address of S3 is taken for one.
    uris = [uri for uri in found if isinstance(uri, str) and uri.startswith("s3://")]
    return RecordedRunState(parameters, tuple(dict.fromkeys(uris)))


def ask_for_experiment(client: Any, experiment: str) -> list[str]:
    """Return the names of the trial components of an experiment.

    Raises:
        NotFoundError: SageMaker does not know it.
        BackendError: SageMaker said no.
    """
    names: list[str] = []
    token: dict[str, str] = {}
    while True:
        arguments = {"ExperimentName": experiment, **token}
        try:
            page = with_retries(
                lambda: _asked(
                    client.list_trial_components,
                    "TrialComponentSummaries",
                    **arguments,  # noqa: B023  # called at once
                ),
                recording=True,
            )
        except BackendError as error:
            if _is_unknown(error):
                raise NotFoundError(
                    f"SageMaker knows no experiment {experiment!r}; for a folder or a prefix, say"
                    " where: --root PLACE, or open_experiment(name, root=...)"
                ) from error
            raise
        names += [item["TrialComponentName"] for item in page.get("TrialComponentSummaries", ())]
        if not page.get("NextToken"):
            return names
        token = {"NextToken": page["NextToken"]}


def latest_experiments(client: Any) -> list[str]:
    """Return the names of the hundred latest experiments.

    Raises:
        BackendError: SageMaker said no.
    """
    page = with_retries(
        lambda: _asked(client.list_experiments, "ExperimentSummaries", MaxResults=100),
        recording=True,
    )
    return [str(item["ExperimentName"]) for item in page["ExperimentSummaries"]]


def _is_unknown(error: BackendError) -> bool:
    """Tell whether SageMaker has nothing of that name, or can have nothing."""
    return error.code in ("ResourceNotFound", "ValidationException", "ParamValidationError")


def read_state_of(run: Any, s3_options: Mapping[str, Any]) -> tuple[Any, RecordedRunState]:
    """Ask for a Run object's state, with its own session.

    Args:
        run: A ``Run`` of sagemaker 2.x or 3.x.
        s3_options: As of ``Access``.

    Returns:
        A boto3 S3 client of the Run's session, and what SageMaker holds; its addresses are those
        the Run itself leads to where SageMaker names none.

    Raises:
        RunError: It lacks something.
        BackendError: SageMaker said no.
    """
    target = read_run(run)
    access = Access(
        session=target.session.boto_session, way=way_of(target.s3_client()), s3_options=s3_options
    )
    state = ask_for_run(target.sagemaker, target.trial_component)
    if not state.events:
        bucket, prefix = target.bucket, target.prefix
        if bucket is None:
            bucket, prefix = with_retries(target.default_bucket)
        root = run_prefix(prefix, target.experiment, target.run)
        state = RecordedRunState(state.parameters, (f"s3://{bucket}/{root}",))
    return access.client("s3"), state


def account_bucket(access: Access) -> str:
    """Return the name of an account's default bucket, as the SDK makes it. Blocks: asks STS.

    Args:
        access: With whose credentials, and in which region; an endpoint is S3's, and left out.

    Raises:
        BackendError: There is no answer.
    """
    client = replace(access, endpoint_url=None, way=None).client("sts")

    def ask() -> str:
        account = client.get_caller_identity().get("Account")
        return account_bucket_name(client.meta.region_name, account)

    return with_retries(ask)


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key prefix of an ``s3://`` address, without a slash at its end.

    Raises:
        NotFoundError: It names no bucket, or no object can have that key.
    """
    address = uri.removeprefix("s3://")
    point = ACCESS_POINT.match(address)  # it may have slashes of its own
    bucket = point[0] if point else address.partition("/")[0]
    prefix = address[len(bucket) :].removeprefix("/").rstrip("/")
    if not bucket or "//" in f"/{prefix}":
        raise NotFoundError(f"{uri!r} is no address in S3: s3://bucket/prefix without '//' in it")
    return bucket, prefix


def _asked(operation: Callable[..., Any], field: str, **arguments: Any) -> Any:
    """Return an answer of SageMaker's, which has this field."""
    answer = operation(**arguments)
    acknowledge.require_field(answer, field)
    return answer


def _advised(error: BackendError) -> BackendError:
    """Return an error that says what a reader can change; what is about writing is left out."""
    advice = _ACCESS if error.code == "AccessDenied" else error.advice
    if error.code in _TOLD:
        error.args = (f"{str(error).rstrip('.')}. {advice}",)
    return error


def with_retries(attempt: Callable[[], _T], *, recording: bool = False) -> _T:
    """Return what an attempt returns, after as many as it takes, six at the most. Blocks.

    Args:
        attempt: The attempt.
        recording: Whether it is a request to SageMaker.

    Raises:
        ReadError: What an attempt says is final.
        BackendError: The last attempt failed, or one in a way that a retry does not mend.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except ReadError:
            raise
        except Exception as error:
            mapped = map_error(error, recording=recording)
            if not isinstance(mapped, TransientError) or number == ATTEMPTS:
                raise _advised(mapped) from error
            longest = min(MAX_BACKOFF, BACKOFF * 2 ** (number - 1))
            wait = random.uniform(0, longest)  # noqa: S311  # jitter, no secret
            time.sleep(max(wait, min(mapped.retry_after or 0.0, 30.0)))
    raise AssertionError("the last attempt returns or raises")
