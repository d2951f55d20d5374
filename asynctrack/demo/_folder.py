"""What the demo leaves on this machine: the events of its Runs, as they lay in the embedded S3."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any, Final

NAME: Final = "asynctrack-demo"
_LAYOUT: Final = "asynctrack/v1/"


def new_folder(name: str = NAME) -> Path:
    """Make a folder that nobody has used: here, or for temporary files where that is not allowed.

    Args:
        name: What it is called; the second one ends in ``-2``.
    """
    for number in count(1):
        folder = Path(name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError:
            break
        return folder
    return Path(tempfile.mkdtemp(prefix=f"{name}-"))


def keep(addresses: Iterable[str], folder: Path, session: Any) -> None:
    """Copy objects into a folder, which can be read as their bucket could. Blocks.

    Args:
        addresses: Their ``s3://`` addresses.
        folder: The folder.
        session: A session of the SageMaker SDK.
    """
    client = session.boto_session.client("s3")
    for address in addresses:
        bucket, _, key = address.removeprefix("s3://").partition("/")
        path = folder / f"{_LAYOUT}{key.partition(_LAYOUT)[2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
