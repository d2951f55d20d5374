"""What is in the sdist and the wheel: ``python .ci/artifacts.py DIST FROM_SDIST``.

DIST has an sdist and a wheel made from the checkout, FROM_SDIST a wheel made from that sdist.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = {"3.10", "3.11", "3.12", "3.13", "3.14"}
TOP = {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}


def main(dist: Path, again: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    (rebuilt,) = again.glob("*.whl")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(rebuilt) as second:
        names = first.namelist()
        assert names == second.namelist(), set(names) ^ set(second.namelist())
        for name in names:
            assert first.read(name) == second.read(name), f"{name} differs when built from sdist"
        in_wheel(set(names))
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        described(HeaderParser().parsestr(first.read(metadata).decode()))
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "asynctrack = asynctrack.cli:main" in first.read(entry).decode()
    with tarfile.open(sdist) as archive:
        in_sdist({one.name.partition("/")[2] for one in archive if one.isfile()})
    print(f"{wheel.name}: {len(names)} files, the same from the sdist")


def in_wheel(names: set[str]) -> None:
    """The package and what describes it, nothing else; all of the package that is committed."""
    outside = [n for n in names if not re.match(r"asynctrack(-[\d.]+\.dist-info)?/", n)]
    assert not outside, outside
    package = {f"asynctrack/{name}" for name in committed()}
    assert {n for n in names if n.startswith("asynctrack/")} == package
    assert "asynctrack/py.typed" in names


def in_sdist(names: set[str]) -> None:
    """What the wheel is built from, and the few tests that setuptools itself takes along."""
    other = {n for n in names if not n.startswith(("asynctrack/", "asynctrack.egg-info/"))}
    other = {n for n in other if not re.fullmatch(r"tests/test_\w+\.py", n)}
    assert other == TOP, other ^ TOP
    assert {f"asynctrack/{name}" for name in committed()} <= names


def committed() -> set[str]:
    """The files of the package in the checkout, without what Python leaves there."""
    package = ROOT / "asynctrack"
    found = (path.relative_to(package) for path in package.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def described(metadata: object) -> None:
    """Licence, Pythons and what an index shows."""
    get = metadata.get_all  # type: ignore[attr-defined]
    assert get("License-Expression") == ["Apache-2.0"] and get("License-File") == ["LICENSE"]
    assert get("Requires-Python") == ["<3.15,>=3.10"]
    classified = {one.rpartition(" ")[2] for one in get("Classifier") if "Python :: 3." in one}
    assert classified == PYTHONS, classified
    assert get("Description-Content-Type") == ["text/markdown"]
    assert not [one for one in get("Requires-Dist") if "@" in one], "no address but versions"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
