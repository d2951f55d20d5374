"""``asynctrack compact``, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from asynctrack import cli
from tests.reading.making import RunFolder, event


def test_compact_says_what_it_did(tmp_path: Path, capsys: Any) -> None:
    """Without ``--delete`` nothing goes; what is left is said, and damage is exit code 1."""
    for name in ("one", "two"):
        folder = RunFolder(tmp_path, run=name)
        for seq in range(1, 6):
            folder.artifact([event(seq)])
        folder.manifest()
    assert cli.main(["compact", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "10 segments are compacted, verified, and still there: --delete deletes them" in out
    assert len(list(tmp_path.glob("asynctrack/v1/*/*/dt=*/*"))) == 10
    broken = RunFolder(tmp_path, run="three").artifact([event(1)], listed=True)
    assert cli.main(["compact", str(tmp_path), "--delete", "--json"]) == 0
    runs = {one["uri"].split("run=")[1]: one for one in json.loads(capsys.readouterr().out)["runs"]}
    assert runs["one/"]["deleted"] == runs["two/"]["deleted"] == 5
    assert runs["three/"]["kept"] == [
        {"uri": str(broken), "reason": "no manifest lists its checksum (yet)", "fault": False}
    ]
    folder = RunFolder(tmp_path, run="three")
    folder.artifact([event(1)])
    folder.manifest()
    broken.write_bytes(b"")
    assert cli.main(["compact", str(tmp_path), "--delete"]) == 1
    assert f"kept: {broken}: it is not what its manifest lists" in capsys.readouterr().out
    assert cli.main(["compact", str(tmp_path / "nothing")]) == 2
