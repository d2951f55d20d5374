"""Keeps the developer's machine out of the tests: its AWS accounts, keys, proxies and settings."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

FOREIGN = (
    *("ASYNCTRACK_", "AWS_", "BOTO_", "LANGCHAIN_", "LANGSMITH_", "MOTO_", "OPENAI_", "RCLONE_"),
    *("MLFLOW_", "SAGEMAKER_", "SERPAPI_", "SERPER_"),
)
SAGEMAKER_CONFIG = Path(__file__).with_name("sagemaker.yaml")


def isolate(environment: MutableMapping[str, str]) -> None:
    """Take out what must not leak in, and set what keeps libraries from looking elsewhere."""
    for name in [name for name in environment if name.upper().startswith(FOREIGN)]:
        del environment[name]
    environment.update(
        {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            # Without it, a client without credentials waits for an address that is not there.
            "AWS_EC2_METADATA_DISABLED": "true",
            "LANGCHAIN_TRACING_V2": "false",
            "LANGSMITH_TRACING": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            # Usage telemetry of the SageMaker SDK off; the machine-wide file is not read either.
            "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(SAGEMAKER_CONFIG),
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(SAGEMAKER_CONFIG),
        }
    )
