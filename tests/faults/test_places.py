"""Where the spool goes in environments that are not made for it: real processes, users and disks.

Most of it takes another user's process, which only root can start. It imports all as root and
changes its user then: the interpreter need not be readable to everybody.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asynctrack._spool.layout import waiting_segments
from tests.crash.test_disk import Disk
from tests.faults.ground import finish, outputs
from tests.support.auditor import events_in_folder

if sys.platform == "win32":
    pytest.skip("users, links and locks are POSIX's here", allow_module_level=True)

UID = 54_321
"""A user that no passwd file knows, as in many containers."""
MIB = 1 << 20

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

BEGIN = """
    import errno, fcntl, json, os, resource, sys, uuid
    from asynctrack import tracker
    from asynctrack._engine import closing

    def end(handler, value):
        handler.on_chain_end(value, run_id=uuid.uuid4())

    def become(uid):
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)

    def say(handler):
        now = handler.statistics()
        assert now.balanced
        print(json.dumps({name: getattr(now, name) for name in (
            "accepted", "delivered", "spooled", "pending", "replayed")}))

    arguments = json.loads(sys.argv[1])
    # It closes right after its last event: how long it waits for a replay is not what is tested.
    closing.REPLAY_GRACE = 60.0
    out, first, last = arguments["out"], arguments["first"], arguments["last"]
    # All that is imported on the way, while it can be read.
    with tracker(arguments["warm"], durability="memory") as handler:
        end(handler, "warm")
"""
TRACK = """
    if arguments["uid"]:
        become(arguments["uid"])
    with tracker(out, **arguments["options"]) as handler:
        for number in range(first, last):
            end(handler, number)
    say(handler)
"""


@dataclass
class Land:
    """A piece of the machine that another user's process may go to."""

    root: Path

    def __post_init__(self) -> None:
        self.root.chmod(0o755)
        self.home = self.folder("home", UID)
        self.temporary = self.folder("tmp", 0, 0o1777)
        self.out = self.folder("out", UID)
        self.wall = self.out / "tracked"
        """A file where the tracked events are to go: nothing is delivered while it stands."""
        self.wall.touch()
        self.warm = self.folder("warm", 0)

    def folder(self, name: str, uid: int, mode: int = 0o700) -> Path:
        path = self.root / name
        path.mkdir(parents=True)
        path.chmod(mode)
        if os.geteuid() == 0:
            os.chown(path, uid, uid)
        return path

    def track(
        self,
        first: int = 0,
        last: int = 3,
        *,
        uid: int = UID,
        before: str = "",
        home: str | Path | None = "mine",
        code: str = TRACK,
        options: dict[str, Any] | None = None,
        **environment: str,
    ) -> Tracked:
        """Track numbers in a process of its own.

        Args:
            first: The first number.
            last: The one after the last.
            uid: Whose process.
            before: Code that runs before it tracks.
            home: HOME; None leaves it out.
            code: What it does.
            options: Of the tracker.
            **environment: Further variables.
        """
        unset = ("HOME", "XDG_STATE_HOME", "ASYNCTRACK_CLOSE_TIMEOUT", "ASYNCTRACK_CLOSE_PATIENCE")
        variables = {name: value for name, value in os.environ.items() if name not in unset}
        if home is not None:
            variables["HOME"] = str(self.home if home == "mine" else home)
        # While the wall stands nothing is delivered, however long it takes; then everything is.
        patience = 0.5 if self.wall.is_file() else 60
        arguments = {
            "out": str(self.wall / "run"),
            "warm": str(self.warm / "run"),
            "first": first,
            "last": last,
            "uid": uid,
            "options": {
                "close_timeout": 60,
                "close_patience": patience,
                "run_name": "r",
                **(options or {}),
            },
        }
        program = "\n".join(map(textwrap.dedent, (BEGIN, before, code)))
        child = subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**variables, "TMPDIR": str(self.temporary), **environment},
        )
        out, errors = finish(child)
        assert child.returncode == 0, errors
        return Tracked([json.loads(line) for line in out.splitlines()], errors)

    def mend(self) -> None:
        """Let events be delivered from now on."""
        if self.wall.is_file():
            self.wall.unlink()

    def waiting(self) -> list[Path]:
        """The spools in which lines wait."""
        folders = self.root.glob("**/spool/v1/*")
        return sorted({folder.parents[1] for folder in folders if waiting_segments(folder)})

    def delivered(self) -> list[int]:
        """The numbers that arrived, in order."""
        return sorted(outputs(list(events_in_folder(self.wall))))

    def private(self, number: int = 0, uid: int = UID) -> Path:
        """The private folder among the temporary files."""
        return self.temporary / (f"asynctrack-{uid}" + (f"-{number}" if number else ""))


@dataclass
class Tracked:
    """What a process of `Land.track` said."""

    statistics: list[dict[str, int]]
    errors: str

    @property
    def warnings(self) -> list[str]:
        """What it said of places."""
        return [line for line in self.errors.splitlines() if "cannot write to its spool" in line]


@pytest.fixture
def land() -> Iterator[Land]:
    # Not below tmp_path: pytest's folders are its user's alone.
    root = Path(tempfile.mkdtemp(prefix="land-", dir="/tmp"))
    yield Land(root)
    shutil.rmtree(root)


def state_of(home: Path) -> Path:
    return home / ".local" / "state" / "asynctrack" / "spool"


@as_root
@pytest.mark.parametrize(
    ("home", "why"),
    [
        (None, "there is no home: HOME names none"),
        ("", "there is no home: HOME names none"),
        ("rel/ative", "there is no home: HOME names none"),
        ("/nonexistent", "there is no folder /nonexistent"),
        ("/", "Permission denied"),
        ("read-only", "Permission denied"),
        ("of-another", "Permission denied"),
        ("taken", "it belongs to another user"),
    ],
)
def test_a_home_that_cannot_be_used(land: Land, home: str | None, why: str) -> None:
    """Events wait in a private temporary folder, one warning says so and why, and the next
    tracker delivers them, also when the home is back."""
    if home == "read-only":
        home = str(land.folder("read-only", UID, 0o555))
    elif home == "of-another":
        home = str(land.folder("of-another", 0))
    elif home == "taken":
        home = str(land.folder("taken", UID))
        land.folder("taken/.local/state/asynctrack/spool", 0, 0o777)
        os.chmod(Path(home) / ".local", 0o755)
    first = land.track(0, 3, home=home)
    assert first.statistics[0]["spooled"] == 3
    (warning,) = first.warnings
    assert why in warning and str(land.private() / "spool") in warning
    assert "spool_dir=" in warning
    assert land.waiting() == [land.private() / "spool"]
    assert land.private().stat().st_mode & 0o777 == 0o700
    land.mend()
    second = land.track(3, 4)
    assert second.statistics[0]["replayed"] == 3 and second.warnings == []
    assert land.delivered() == [0, 1, 2, 3]
    assert land.waiting() == []


@as_root
def test_a_state_home_that_cannot_be_used(land: Land) -> None:
    """XDG_STATE_HOME of another user's: the home is the next best place."""
    first = land.track(0, 3, XDG_STATE_HOME=str(land.folder("state", 0)))
    (warning,) = first.warnings
    assert f"{land.root}/state/asynctrack/spool (Permission denied): events wait in" in warning
    assert land.waiting() == [state_of(land.home)]
    land.mend()
    assert land.track(3, 4).warnings == []
    assert land.delivered() == [0, 1, 2, 3]


@as_root
def test_a_service_that_runs_as_another_user_now(land: Land) -> None:
    """What it left as the one before is delivered, where it may be read; its own goes elsewhere,
    as the other one could not deliver it."""
    assert land.track(0, 3).statistics[0]["spooled"] == 3
    second = land.track(3, 5, uid=0)
    (warning,) = second.warnings
    assert f"{state_of(land.home)} (it belongs to another user)" in warning
    land.mend()
    assert land.track(5, 6, uid=0).statistics[0]["replayed"] == 5
    assert land.delivered() == [0, 1, 2, 3, 4, 5]
    assert land.waiting() == []


@as_root
@pytest.mark.parametrize("taken", ["link", "folder", "file", "open"])
def test_somebody_sits_on_the_private_folder(land: Land, taken: str) -> None:
    """A link, or a folder that is not ours alone, is neither written to nor followed: the next
    name is taken, which later trackers find as well."""
    bait = land.folder("bait", 0, 0o777)
    if taken == "link":
        land.private().symlink_to(bait)
    elif taken == "folder":
        land.folder(f"tmp/{land.private().name}", 0, 0o777)
    elif taken == "file":
        land.private().touch(0o666)
    else:
        land.folder(f"tmp/{land.private().name}", UID, 0o755)
    first = land.track(0, 3, home=None)
    (warning,) = first.warnings
    assert f"{land.private()}/spool (" in warning
    assert land.waiting() == [land.private(1) / "spool"]
    assert list(bait.iterdir()) == []
    land.mend()
    assert land.track(3, 4, home=None).statistics[0]["replayed"] == 3
    assert land.delivered() == [0, 1, 2, 3]


@as_root
def test_no_place_at_all(land: Land) -> None:
    """Events wait in memory and are delivered from there; the one warning names every place."""
    land.mend()
    tracked = land.track(home="/nonexistent", TMPDIR="/nonexistent/tmp")
    assert tracked.statistics[0]["delivered"] == 3
    (warning,) = tracked.warnings
    assert "/nonexistent/.local/state/asynctrack/spool (there is no folder /nonexistent)" in warning
    assert warning.count(f"/nonexistent/tmp/asynctrack-{UID}/spool (there is no folder") == 1
    assert f"asynctrack-{UID}-1" not in warning
    assert "in memory only" in warning
    assert land.delivered() == [0, 1, 2]


@as_root
def test_a_place_that_the_user_names_is_the_only_one(land: Land) -> None:
    """With spool_dir= nothing is written elsewhere: memory is the next best, and why is said."""
    land.mend()
    named = land.folder("named", 0)
    tracked = land.track(ASYNCTRACK_SPOOL_DIR=str(named / "spool"))
    assert tracked.statistics[0]["delivered"] == 3
    (warning,) = tracked.warnings
    assert f"{named / 'spool'} (Permission denied): events wait in memory only" in warning
    assert not land.private().exists() and not list(land.home.iterdir())
    assert land.delivered() == [0, 1, 2]


@as_root
def test_lambda_gets_tmp_without_a_word(land: Land) -> None:
    """Its home is read-only, which nobody there can change: no warning of it."""
    home = land.folder("read-only", UID, 0o555)
    environment = {"AWS_LAMBDA_FUNCTION_NAME": "f"}
    first = land.track(0, 3, home=home, **environment)
    assert first.statistics[0]["spooled"] == 3 and first.warnings == []
    assert land.waiting() == [land.private() / "spool"]
    land.mend()
    assert land.track(3, 4, home=home, **environment).warnings == []
    assert land.delivered() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "EIO"])
def test_a_file_system_without_locks(land: Land, name: str) -> None:
    """As with an NFS whose lock server is not there: without locks nobody knows who lives, so the
    next place is taken, and no empty folder is left in the first."""
    # The one fake: no such file system is to be had in a test.
    before = f"""
        real = fcntl.flock
        def flock(descriptor, operation):
            if os.readlink(f"/proc/self/fd/{{descriptor}}").startswith({str(land.home)!r}):
                raise OSError(errno.{name}, os.strerror(errno.{name}))
            return real(descriptor, operation)
        fcntl.flock = flock
    """
    mine = os.geteuid()
    first = land.track(0, 3, uid=0, before=before)
    (warning,) = first.warnings
    assert f"{state_of(land.home)} (" in warning and os.strerror(getattr(errno, name)) in warning
    assert land.waiting() == [land.private(uid=mine) / "spool"]
    assert list((state_of(land.home) / "v1").iterdir()) == []
    land.mend()
    assert land.track(3, 4, uid=0, before=before).statistics[0]["replayed"] == 3
    assert land.delivered() == [0, 1, 2, 3]


def test_files_may_not_grow(land: Land) -> None:
    """RLIMIT_FSIZE below a segment's size: no place works, the events go through memory."""
    land.mend()
    before = "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))"
    tracked = land.track(uid=0, before=before)
    assert tracked.statistics[0]["delivered"] == 3
    (warning,) = tracked.warnings
    assert os.strerror(errno.EFBIG) in warning and "in memory only" in warning
    assert land.delivered() == [0, 1, 2]


@pytest.fixture
def disk(land: Land) -> Iterator[Disk]:
    """A disk of 6 MiB. Needs the right to mount: containers of CI often have it, users do not."""
    try:
        small = Disk(land.root / "disk", 6 * MIB)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a file system of the test's own: {error}")
    os.chown(small.path, UID, UID)
    yield small
    small.unmount()


@as_root
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_disk_that_takes_nothing(land: Land, disk: Disk, trouble: str) -> None:
    """The home's disk is full, or mounted read-only: the temporary folder is on another one."""
    if trouble == "full":
        disk.fill()
    else:
        disk.mode("ro")
    options = {"max_batch_bytes": MIB}
    first = land.track(0, 3, home=disk.path, options=options)
    why = "would be left free" if trouble == "full" else os.strerror(errno.EROFS)
    (warning,) = first.warnings
    assert why in warning or os.strerror(errno.ENOSPC) in warning
    assert land.private() / "spool" in land.waiting()
    if trouble == "full":
        disk.free()
    else:
        disk.mode("rw")
    land.mend()
    second = land.track(3, 4, home=disk.path, options=options)
    assert second.statistics[0]["replayed"] == 3 and second.warnings == []
    assert land.delivered() == [0, 1, 2, 3]
    assert land.waiting() == []


@as_root
def test_a_disk_that_fills_up_midway(land: Land, disk: Disk) -> None:
    """What fits stays on the first disk, the rest goes to the next best place; the next tracker
    delivers both parts, each event once."""
    code = """
        become(arguments["uid"])
        with tracker(out, **arguments["options"]) as handler:
            for number in range(first, last):
                while handler.statistics().pending:  # on disk, before the next one comes
                    pass
                end(handler, [number, f"{number} " + "x" * 100_000])  # nothing is shared
        say(handler)
    """
    options = {"max_batch_bytes": MIB, "max_delay": 3600.0}
    first = land.track(0, 100, home=disk.path, code=code, options=options)
    assert first.statistics[0]["spooled"] == 100
    (warning,) = first.warnings
    assert str(state_of(disk.path)) in warning
    (left,) = [line for line in first.errors.splitlines() if "could not deliver" in line]
    assert f"{state_of(disk.path)}/v1/" in left and f" and {land.private()}/spool/v1/" in left
    assert land.waiting() == sorted([state_of(disk.path), land.private() / "spool"])
    land.mend()
    land.track(0, 0, home=disk.path, options=options)
    numbers = [value[0] for value in outputs(list(events_in_folder(land.wall)))]
    assert sorted(numbers) == list(range(100))
    assert land.waiting() == []


FORK = """
    with tracker(out, **arguments["options"]) as handler:
        end(handler, 0)
        while handler.statistics().pending:
            pass
        child = os.fork()
        if not child:
            # The first segment is made before the user changes, in the parent's place.
            end(handler, "x" * 700_000)
            become(arguments["uid"])
            for number in range(1, 5):
                end(handler, str(number) * 700_000)
                while handler.statistics().pending:
                    pass
            say(handler)
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        end(handler, 5)
    say(handler)
"""


@as_root
def test_a_worker_that_changes_its_user_after_the_fork(land: Land) -> None:
    """As gunicorn --user does: the parent is root, its place is not the child's to write. The
    child finds one of its own; each user's next tracker delivers what lies in its places."""
    home = land.folder("root", 0)
    options = {"max_batch_bytes": MIB, "max_delay": 3600.0}
    tracked = land.track(home=home, code=FORK, options=options)
    child, parent = tracked.statistics
    assert (child["accepted"], child["spooled"]) == (5, 5)
    assert (parent["accepted"], parent["spooled"]) == (2, 2)
    (warning,) = tracked.warnings
    assert f"{state_of(home)} (Permission denied)" in warning
    assert land.waiting() == sorted([state_of(home), land.private() / "spool"])
    land.mend()
    land.track(0, 0, home=home, options=options)  # first, as root may write what it has made
    land.track(0, 0, uid=0, home=home, options=options)
    assert land.waiting() == []
    found = [
        value if isinstance(value, int) else value[0]
        for value in outputs(list(events_in_folder(land.wall)))
    ]
    assert sorted(map(str, found)) == ["0", "1", "2", "3", "4", "5", "x"]
