"""A Run without the SageMaker SDK, whose import takes seconds: it offers what tracking reads.

Imports nothing heavy either, so that programs in processes of their own start quickly::

    from tests.faults.light import Place
    with tracker(Place.from_json(text).run()) as handler:
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where a Run's data goes; plain text, so that it can be handed to another process."""

    s3_url: str
    sagemaker_url: str
    access_key: str
    secret_key: str
    bucket: str
    experiment: str
    name: str = "run-1"

    @property
    def trial_component(self) -> str:
        """SageMaker's name of the Run."""
        return f"{self.experiment}-{self.name}"

    @property
    def prefix(self) -> str:
        """Of every key that asynctrack writes."""
        return f"p/asynctrack/v1/experiment={self.experiment}/run={self.name}/"

    def run(self, credentials: Callable[[], Any] | None = None) -> Any:
        """What ``tracker`` takes.

        Args:
            credentials: Takes the place of the session's ``get_credentials``.
        """

        def own() -> Any:
            from botocore.credentials import Credentials

            return Credentials(self.access_key, self.secret_key)

        def client(url: str) -> Any:
            return SimpleNamespace(meta=SimpleNamespace(endpoint_url=url, region_name="us-east-1"))

        session = SimpleNamespace(
            boto_session=SimpleNamespace(get_credentials=credentials or own),
            sagemaker_client=client(self.sagemaker_url),
            sagemaker_metrics_client=client(self.sagemaker_url),
        )
        return SimpleNamespace(
            experiment_config={"RunName": self.trial_component},
            experiment_name=self.experiment,
            run_name=self.name,
            _artifact_uploader=SimpleNamespace(
                sagemaker_session=session,
                artifact_bucket=self.bucket,
                artifact_prefix="p",
                _s3_client=client(self.s3_url),
            ),
            _trial_component=SimpleNamespace(parameters={}),
        )

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Place:
        """The same there."""
        return cls(**json.loads(text))


def work(handler: Any, folder: str, number: int) -> None:
    """One task of a worker process, here so that a new interpreter finds it quickly."""
    if handler is not None:
        handler.on_chain_end(number, run_id=uuid.uuid4())
        return
    from asynctrack import tracker

    with tracker(folder, run_name="r") as own:
        own.on_chain_end(number, run_id=uuid.uuid4())
