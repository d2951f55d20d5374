"""An embedded AWS: S3, SageMaker Experiments and its metrics, in a process of its own.

    with embedded_aws() as aws:
        session = aws.sagemaker_session()

It is moto's server on 127.0.0.1 with the behaviour and the limits of AWS that moto lacks (see
`_aws_sagemaker` and `_aws_limits`). It keeps everything in memory until it is left.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._process import announce, end_with_parent, ignore_interrupts, server_process

if TYPE_CHECKING:
    import boto3

REGION = "us-east-1"
_KEY_ID, _SECRET = "embedded", "embedded-secret"
_TELEMETRY_OFF = {
    "SchemaVersion": "1.0",
    "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}},
}


@dataclass(frozen=True)
class EmbeddedAWS:
    """A running embedded AWS.

    Attributes:
        endpoint_url: Where all its services answer.
        region: The region it plays.
        folder: Where its configuration files lie; gone when the embedded AWS is left.
    """

    endpoint_url: str
    region: str
    folder: Path

    def boto_session(self) -> boto3.Session:
        """A boto3 session with dummy credentials whose clients all speak to this AWS."""
        import boto3

        endpoint_url = self.endpoint_url

        class EmbeddedSession(boto3.Session):  # type: ignore[misc]  # boto3 has no types
            def client(self, *arguments: Any, **options: Any) -> Any:
                # Always: the SageMaker SDK names AWS's own endpoint when it asks STS.
                options["endpoint_url"] = endpoint_url
                return super().client(*arguments, **options)

        return EmbeddedSession(
            aws_access_key_id=_KEY_ID, aws_secret_access_key=_SECRET, region_name=self.region
        )

    def sagemaker_session(self) -> Any:
        """A session of the SageMaker SDK that speaks to this AWS, with telemetry off.

        The first call imports sagemaker, which takes seconds: never make it on an event loop.
        """
        from ._sagemaker import sagemaker_sdk

        return sagemaker_sdk().Session(
            boto_session=self.boto_session(), sagemaker_config=_TELEMETRY_OFF
        )

    def environment(self) -> dict[str, str]:
        """Environment variables that point any program's AWS clients here, telemetry off.

        They also shut out this machine's own AWS profiles and credentials.
        """
        return {
            "AWS_ACCESS_KEY_ID": _KEY_ID,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_CONFIG_FILE": str(self.folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "credentials"),
            "AWS_PROFILE": "default",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(self.folder / "sagemaker.yaml"),
        }


@contextmanager
def embedded_aws() -> Iterator[EmbeddedAWS]:
    """Start an embedded AWS and stop it when the block is left.

    Raises:
        ServerNotStarted: Its process did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="asynctrack-aws-") as name:
        folder = Path(name)
        keys = f"aws_access_key_id = {_KEY_ID}\naws_secret_access_key = {_SECRET}\n"
        (folder / "credentials").write_text(f"[default]\n{keys}", encoding="utf-8")
        (folder / "config").write_text(f"[default]\nregion = {REGION}\n", encoding="utf-8")
        (folder / "sagemaker.yaml").write_text(
            "SchemaVersion: '1.0'\n"
            "SageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n",
            encoding="utf-8",
        )
        with server_process("asynctrack.demo._aws", ["--port", "0"]) as announced:
            yield EmbeddedAWS(announced["endpoint_url"], REGION, folder)


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input is closed; print one line of JSON when ready."""
    ignore_interrupts()
    parser = argparse.ArgumentParser(prog="python -m asynctrack.demo._aws", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    port = parser.parse_args(arguments).port
    end_with_parent()

    # Only here, in the server's own process: moto takes seconds to import.
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    from ._aws_sagemaker import install

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    install()
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server(
        "127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler
    )
    announce({"endpoint_url": f"http://127.0.0.1:{server.port}", "region": REGION})
    server.serve_forever()


if __name__ == "__main__":
    main()
