"""Where the spool may be: the candidates, and what speaks against one."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from asynctrack._spool.folder import WriterFolder, make_place
from asynctrack._spool.layout import (
    SpoolPlace,
    default_spool_dir,
    spool_places,
    usable_spools,
    writer_folder,
)
from tests.spool.test_segment import WRITER

NOBODYS_UID = 3_123_456
"""No passwd file has it."""


def paths(environ: dict[str, str], uid: int = NOBODYS_UID) -> list[str]:
    places = spool_places(environ=environ, uid=uid)
    return [str(place.path) for place in places if not place.refused]


def temporary(folder: str, uid: int = NOBODYS_UID) -> list[str]:
    names = ("", "-1", "-2", "-3")
    return [f"{folder}/asynctrack-{uid}{name}/spool" for name in names]


def test_state_first_then_what_is_temporary() -> None:
    """XDG_STATE_HOME, the home's state directory, a private folder in TMPDIR: in this order."""
    environ = {"XDG_STATE_HOME": "/x", "HOME": "/home/me", "TMPDIR": "/t"}
    expected = ["/x/asynctrack/spool", "/home/me/.local/state/asynctrack/spool"]
    assert paths(environ) == [*expected, *temporary("/t")]
    assert default_spool_dir(environ) == Path(expected[0])


def test_what_is_no_whole_path_is_not_looked_at() -> None:
    """Unset, empty and relative variables are ignored, as the standard says; /tmp is TMPDIR."""
    for odd in ({}, {"XDG_STATE_HOME": "", "TMPDIR": ""}, {"XDG_STATE_HOME": "x", "TMPDIR": "t"}):
        expected = ["/home/me/.local/state/asynctrack/spool", *temporary("/tmp")]
        assert paths({"HOME": "/home/me", **odd}) == expected


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_it_is_the_one_in_passwd(home: str | None) -> None:
    """HOME may be missing or nonsense; a user without an entry has only temporary places."""
    environ = {} if home is None else {"HOME": home}
    entry = pwd.getpwuid(os.getuid())
    assert paths(environ, entry.pw_uid)[0] == f"{entry.pw_dir}/.local/state/asynctrack/spool"
    assert paths(environ) == temporary("/tmp")
    (refused,) = (
        place for place in spool_places(environ=environ, uid=NOBODYS_UID) if place.refused
    )
    assert "HOME names none" in refused.why_not()


def test_a_place_is_named_once() -> None:
    """XDG_STATE_HOME that says what is the default anyway adds nothing."""
    environ = {"XDG_STATE_HOME": "/home/me/.local/state", "HOME": "/home/me"}
    assert paths(environ)[:2] == ["/home/me/.local/state/asynctrack/spool", temporary("/tmp")[0]]


def test_lambda_gets_tmp() -> None:
    """Its home is read-only: the temporary folder is no second choice there."""
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "f", "HOME": "/home/me"}
    assert paths(environ) == temporary("/tmp")
    assert paths({**environ, "XDG_STATE_HOME": "/mnt/efs"})[0] == "/mnt/efs/asynctrack/spool"


def test_the_users_word_is_the_only_place(tmp_path: Path) -> None:
    """Who names a folder means that one, whatever it looks like."""
    (place,) = spool_places(tmp_path / "mine")
    assert place == SpoolPlace(tmp_path / "mine", given=True)
    assert place.why_not(uid=NOBODYS_UID) == ""


def private_place(tmp_path: Path) -> SpoolPlace:
    environ = {"TMPDIR": str(tmp_path), "AWS_LAMBDA_FUNCTION_NAME": "f"}
    return spool_places(environ=environ)[0]


def test_a_private_folder_is_made_private(tmp_path: Path) -> None:
    """Nobody else looks into the folder among the temporary files, whatever the umask."""
    before = os.umask(0)
    try:
        place = private_place(tmp_path)
        make_place(place)
        WriterFolder(writer_folder(place.path, WRITER)).abandon()
    finally:
        os.umask(before)
    assert place.private is not None
    assert stat.S_IMODE(place.private.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o700
    assert usable_spools([place, place]) == [place.path]


def test_a_folder_among_everybodys_must_be_ours_alone(tmp_path: Path) -> None:
    """A link, a file, a folder that others may look into or that is somebody else's is not used,
    neither to write nor to read."""
    place = private_place(tmp_path)
    assert place.private is not None
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "spool" / "v1").mkdir(parents=True, mode=0o700)
    place.private.symlink_to(elsewhere)
    assert place.why_not() == f"{place.private} is no folder"
    place.private.unlink()
    place.private.touch()
    assert place.why_not() == f"{place.private} is no folder"
    place.private.unlink()
    (place.path / "v1").mkdir(parents=True)
    place.private.chmod(0o750)
    assert place.why_not() == f"others may look into {place.private}"
    assert usable_spools([place]) == []
    with pytest.raises(OSError, match="others may look into"):
        make_place(place)
    place.private.chmod(0o700)
    assert place.why_not() == ""
    assert place.why_not(uid=NOBODYS_UID) == "it belongs to another user"
    assert usable_spools([place]) == [place.path]


def test_a_home_is_not_made(tmp_path: Path) -> None:
    """/nonexistent is a user's way of having none: also root does not make it."""
    environ = {"HOME": str(tmp_path / "nonexistent"), "TMPDIR": str(tmp_path)}
    place = spool_places(environ=environ)[0]
    with pytest.raises(OSError, match="there is no folder"):
        make_place(place)
    assert not (tmp_path / "nonexistent").exists()
