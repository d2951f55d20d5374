"""What is in the events: the value at the call, and no secret anywhere. Rows 31 and 32."""

from __future__ import annotations

import logging
import random
import secrets
import string
import uuid
from pathlib import Path
from typing import Any

import pytest
import zstandard

from asynctrack import tracker
from tests.e2e.waiting import Wall, until_in_thread
from tests.faults.ground import Ground, end, outputs
from tests.support.auditor import events_in_folder

# -- row 31 ---------------------------------------------------------------------------------------


def test_the_value_at_the_call_is_what_is_stored(tmp_path: Path) -> None:
    """A thousand objects changed right after their callback, on disk and delivered as they were."""
    wall = Wall(tmp_path)
    value: dict[str, Any] = {"list": [0], "deep": {"in": {"it": [0]}}, "bytes": bytearray(b"0")}
    with tracker(wall.folder, max_batch_events=100) as handler:
        for number in range(1_000):
            value["list"][0] = value["deep"]["in"]["it"][0] = number
            end(handler, value)
            value["list"][0] = value["deep"]["in"]["it"][0] = "changed"
        value.clear()
        wall.mend()
    stored = outputs(events_in_folder(wall.folder))
    assert [one["list"][0] for one in stored] == list(range(1_000))
    assert [one["deep"]["in"]["it"][0] for one in stored] == list(range(1_000))


# -- row 32 ---------------------------------------------------------------------------------------

_R = random.Random(32)


def _letters(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(_R.choice(alphabet) for _ in range(count))


def canaries() -> list[tuple[str, str]]:
    """A text that holds a secret, and the part of it that must not be anywhere."""
    aws = "AKIA" + _letters(16, string.ascii_uppercase + string.digits)
    key, token, word = _letters(40), _letters(32), _letters(14)
    return [
        (f"sk-proj-{key}", key),
        (aws, aws),
        (f"Authorization: Bearer {token}", token),
        (f"postgres://user:{word}@db.example/x", word),
    ]


class _Headers:
    """An object whose repr shows a header."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"<Request headers={{'x-api-key': {self._text!r}}}>"


def _deep(text: str) -> Any:
    value: Any = text
    for level in range(50):
        value = [value] if level % 2 else {"k": value}
    return value


def _plant(handler: Any, text: str) -> None:
    run_id, parent = uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start(
        {"kwargs": {"header": text}},
        {"input": text, text: "as a key", "tuple": (1, text), "bytes": text.encode()},
        run_id=run_id,
        parent_run_id=parent,
        tags=[text],
        metadata={"note": text, "url": f"https://x.example/?q={text}"},
        name=text,
        extra=text,
    )
    handler.on_chain_end({"deep": _deep(text), "object": _Headers(text)}, run_id=run_id)
    handler.on_text(text, run_id=run_id)
    handler.on_tool_start({"name": "t"}, text, run_id=run_id, inputs={"x": text})
    handler.on_custom_event("custom", {"set": {text}, "frozen": frozenset([text])}, run_id=run_id)
    try:
        try:
            raise KeyError(text)
        except KeyError as inner:
            raise ValueError(f"because of {text}") from inner
    except ValueError as error:
        handler.on_chain_error(error, run_id=run_id)
    handler.log_parameters({"parameter": text, "nested": {"a": [text]}})


def _everything(folder: Path) -> bytes:
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name.endswith(".zst"):
                content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
            parts += [str(path).encode(), content]
    return b"\n".join(parts)


def test_no_secret_anywhere(
    tmp_path: Path, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Secrets in every place of an event: none in the spool, the store, the logs, the manifest."""
    caplog.set_level(logging.DEBUG)
    wall = Wall(tmp_path)
    planted: list[str] = []
    with tracker(wall.folder, compression="zstd") as handler:
        for _ in range(25):
            for text, secret in canaries():
                planted.append(secret)
                _plant(handler, text)
        until_in_thread(lambda: handler.statistics().pending == 0)  # all of it is on disk
        spooled = _everything(state_home)
        assert spooled.count(b'"event":"chain_start"') == 100, "the spool was looked at"
        wall.mend()
    assert handler.statistics().delivered == 700
    stored = _everything(wall.folder)
    assert stored.count(b'"event":"chain_error"') == 100
    for secret in planted:
        for place in (spooled, stored, caplog.text.encode(), repr(handler.statistics()).encode()):
            assert secret.encode() not in place, secret


def test_no_secret_in_the_run(ground: Ground) -> None:
    """Nor in the Run's parameters, or in any request to S3 or SageMaker, headers included."""
    ((text, secret), *_) = canaries()
    with tracker(ground.run(), compression="none") as handler:
        _plant(handler, text)
    assert handler.statistics().delivered == handler.statistics().accepted
    assert "REDACTED" in str(ground.parameters())
    assert secret not in str(ground.parameters())
    for request in ground.proxy.requests:
        assert secret.encode() not in request.body
        assert secret not in str(request.headers) + request.path


def test_a_redactor_that_raises_fails_closed(
    tmp_path: Path, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The user's function raises for some texts: not one of them gets out, the chain goes on."""
    secret = secrets.token_hex(12)

    def redact(text: str) -> str:
        if secret in text:
            raise RuntimeError(f"cannot cope with {text}")
        return text

    with tracker(tmp_path / "out", redact=redact) as handler:
        for number in range(20):
            end(handler, {"number": number, "text": f"x {secret} x"})
            end(handler, {"number": number, "text": "harmless"})
    assert handler.statistics().balanced
    found = _everything(tmp_path / "out") + _everything(state_home) + caplog.text.encode()
    assert secret.encode() not in found
    harmless = [
        one for one in outputs(events_in_folder(tmp_path / "out")) if "harmless" in str(one)
    ]
    assert len(harmless) == 20
