"""Which of AWS's libraries is installed, and what is said where none is."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession

from asynctrack._backends import library

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]

STAND_IN = """
import asyncio
from types import SimpleNamespace
import asynctrack

endpoint = SimpleNamespace(meta=SimpleNamespace(endpoint_url="http://127.0.0.1:9"))
session = SimpleNamespace(
    boto_session=SimpleNamespace(get_credentials=None, region_name="us-east-1"),
    sagemaker_client=endpoint, sagemaker_metrics_client=endpoint,
)
run = SimpleNamespace(
    experiment_name="e", run_name="r", experiment_config={"RunName": "e-r"},
    _artifact_uploader=SimpleNamespace(
        sagemaker_session=session, artifact_bucket="b", artifact_prefix="p"
    ),
)
"""
"""What asynctrack needs of a Run, without an SDK."""


def in_environment(
    folder: Path, packages: Mapping[str, str], code: str
) -> subprocess.CompletedProcess[str]:
    """Run code where asynctrack and certain versions of packages are installed, nothing else."""
    for name, version in packages.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise AssertionError('imported')")
        described = folder / f"{name}-{version}.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    # -S: without the packages that are really there.
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
        timeout=120,
    )


NONE_FITS = re.compile(r"Tracking into a Run needs aioboto3 or aiobotocore, which is not installed")


@pytest.mark.parametrize(
    ("installed", "extra", "said"),
    [
        (None, "aws", ""),
        ("1.34.162", "aws", "pip will bring boto3 1.34.162, which is installed, to 1.40.46 or"),
        ("1.40.61", "aws", "it goes with boto3 1.40.61, which is installed"),
        ("1.40.62", "aws-latest", "pip will bring boto3 1.40.62, which is installed, to 1.43"),
        ("1.43.117", "aws-latest", "it goes with boto3 1.43.117, which is installed"),
        ("1.44.8", "aws-latest", "pip will set boto3 1.44.8, which is installed, back to before"),
    ],
)
def test_without_a_library_the_call_names_the_extra_that_fits(
    installed: str | None, extra: str, said: str, tmp_path: Path
) -> None:
    """tracker(run) raises at the call, names the extra that goes best with the boto3 that is there,
    and says what becomes of that; also in an event loop, and with the old handler's name."""
    code = f"""{STAND_IN}
async def main():
    asynctrack.tracker(run)

try:
    asyncio.run(main())
except asynctrack.MissingExtraError as error:
    print(error.extra, error)
"""
    packages = {} if installed is None else {"boto3": installed}
    shown = in_environment(tmp_path, packages, code)
    assert shown.returncode == 0, shown.stderr
    named, _, text = shown.stdout.partition(" ")
    assert named == extra
    assert NONE_FITS.match(text) and f"pip install 'asynctrack[{extra}]'" in text
    assert said in text
    assert bool(said) == ("(" in text)


def test_with_a_library_the_call_imports_nothing(tmp_path: Path) -> None:
    """tracker(run) takes a library for granted that is installed, and does not import it."""
    code = f"{STAND_IN}\nasynctrack.tracker(run)"
    shown = in_environment(tmp_path, {"aiobotocore": "3.10.0", "boto3": "1.43.117"}, code)
    assert shown.returncode == 0, shown.stderr


def test_a_library_that_is_too_old_is_named(tmp_path: Path) -> None:
    """The worker waits, and says which version is too old and what to install."""
    code = """
from asynctrack import PausingError
from asynctrack._backends.library import prepare
try:
    prepare()
except PausingError as error:
    print(error)
"""
    shown = in_environment(tmp_path, {"aiobotocore": "2.13.3", "boto3": "1.34.162"}, code)
    assert shown.returncode == 0, shown.stderr
    assert "aiobotocore 2.13.3 is too old: " in shown.stdout and "[aws]'" in shown.stdout
    assert "pip will bring boto3 1.34.162" in shown.stdout


def test_aioboto3_is_used_where_it_is_installed() -> None:
    """Clients come from aioboto3 where that is, else from aiobotocore alone."""
    made: Any = library.client_session(AioSession(), "eu-west-1")
    try:
        importlib.metadata.version("aioboto3")
    except importlib.metadata.PackageNotFoundError:
        assert type(made).__module__ == library.__name__
    else:
        assert type(made).__module__ == "aioboto3.session"


@pytest.mark.may_block("making a client reads the service models")
async def test_clients_are_in_the_region_unless_another_is_given() -> None:
    """A client has the session's region; one that is given for it alone comes first."""
    session = AioSession()
    session.set_credentials("key", "secret")
    made = library.client_session(session, "eu-west-1")
    async with made.client("s3") as here, made.client("s3", region_name="eu-north-1") as there:
        assert (here.meta.region_name, there.meta.region_name) == ("eu-west-1", "eu-north-1")


def test_reading_without_boto3_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_run says what to install where boto3 is missing."""
    from asynctrack import MissingExtraError, open_run

    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"boto3, .*install .*\[s3\]'"):
        open_run("s3://bucket/prefix/")


def ranges(extra: str) -> dict[str, str]:
    """Return the versions of each package of an extra, as pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for requirement in project["optional-dependencies"][extra]:
        name, versions = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        found[name] = versions
    return found


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def test_what_is_said_of_the_extras_is_what_they_are() -> None:
    """The versions that messages are made from are those of pyproject.toml."""
    first, end = map(dotted, library.AWS_EXTRA_BOTO3)
    assert ranges("aws")["boto3"] == ranges("aws")["botocore"] == f">={first},<{end}"
    lowest = dotted(library.LOWEST_AIOBOTOCORE)
    assert ranges("s3")["aiobotocore"].startswith(f">={lowest}.")
    assert ranges("read").items() >= ranges("s3").items(), "pip is slow with asynctrack[s3] there"


def test_the_boto3_that_is_named_goes_with_aiobotocore() -> None:
    """What messages say of boto3 is what the installed aiobotocore asks for, or an older one."""
    requirements = importlib.metadata.requires("aiobotocore") or []
    (allowed,) = (one for one in requirements if re.match(r"botocore\b", one))
    bounds = dict(re.findall(r"(>=|<)([\d.]+)", allowed))
    version = importlib.metadata.version("aiobotocore")
    if version == ranges("aws-latest")["aiobotocore"].removeprefix(">=").partition(",")[0] + ".0":
        named = library.LATEST_EXTRA_BOTO3
    elif version == ranges("s3")["aiobotocore"].removeprefix(">=").partition(",")[0]:
        named = library.AWS_EXTRA_BOTO3
    else:
        pytest.skip(f"aiobotocore {version} is newer than the oldest that the extras allow")
    assert [bounds[">="], bounds["<"]] == [dotted(one) for one in named]
