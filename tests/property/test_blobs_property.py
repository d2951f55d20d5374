"""Redaction: data that only looks like keys stays whole, and keys beside it are cut."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import time
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._capture.redact import REDACTED, Redactor
from asynctrack._common import payload
from tests.capture.test_redact import SECRETS, redacted
from tests.property.minified import javascript
from tests.property.strategies import quick

seeds = st.integers(0, 2**64)
sizes = st.one_of(st.integers(1_000, 3_000), st.integers(1_000, 300_000))
"""Bytes. Of texts that are no longer than a key, one in some ten thousand does look like one."""

PREFIXES = (
    "sk-", "lsv2_", "github_pat_", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "glpat-", "sk_live_",
    "rk_live_", "sk_test_", "rk_test_", "whsec_", "hf_", "r8_", "npm_", "pypi-AgE", "gsk_", "pcsk_",
    "xai-", "pplx-", "tvly-", "nvapi-", "xoxb-", "xapp-", "AIza", "eyJ",
)  # fmt: skip
LETTERS = "Zq7Xw9Kv3Jp5Hd2Rt8Ab1Cd4Ef6Gh0Ij2K"
"""What any prefix makes a key with."""


def _bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _standard(seed: int, size: int) -> str:
    return base64.b64encode(_bytes(seed, size)).decode()


def _url_safe(seed: int, size: int) -> str:
    return base64.urlsafe_b64encode(_bytes(seed, size)).decode()


def _uuids(seed: int, size: int) -> str:
    data = _bytes(seed, size // 16 * 16)
    return " ".join(str(uuid.UUID(bytes=data[at : at + 16])) for at in range(0, len(data), 16))


def _hashes(seed: int, size: int) -> str:
    digests = (hashlib.sha256(b"%d %d" % (seed, number)) for number in range(size // 32))
    return " ".join(f"sha256:{one.hexdigest()} {one.hexdigest()[:40]}" for one in digests)


DATA: dict[str, Callable[[int, int], str]] = {
    "base64": _standard,
    "url-safe base64": _url_safe,
    "data URL": lambda seed, size: f"![x](data:image/png;base64,{_standard(seed, size)})",
    "url-safe data URL": lambda seed, size: f"data:font/woff2;base64,{_url_safe(seed, size)}",
    "hex": lambda seed, size: _bytes(seed, size).hex(),
    "UUIDs": _uuids,
    "hashes": _hashes,
    "minified JavaScript": lambda seed, size: javascript(seed, size // 4),  # slow to make
}


def _unchanged(text: str) -> None:
    event = {"time_unix_nano": 1, "data": {"x": text, "in json": json.dumps({"x": text})}}
    body = payload.encode(event)
    assert Redactor().body(body) == body


@pytest.mark.parametrize("make", DATA.values(), ids=list(DATA))
@quick
@given(seeds, sizes)
def test_data_stays_whole(make: Callable[[int, int], str], seed: int, size: int) -> None:
    """No byte of encoded data, of hashes, or of code without literals changes."""
    _unchanged(make(seed, size))


@quick
@given(seeds, sizes)
def test_bytes_stay_whole(seed: int, size: int) -> None:
    """Bytes that are no text, and so are stored as base64, come out as they are."""
    body = payload.encode({"time_unix_nano": 1, "data": b"\xff" + _bytes(seed, size)})
    assert Redactor().body(body) == body


@quick
@given(
    seeds, sizes, st.sampled_from(PREFIXES), st.sampled_from(["", "_", "-", "A", "0_"]), st.data()
)
def test_a_prefix_in_the_middle_of_base64_is_no_key(
    seed: int, size: int, prefix: str, sign: str, data: st.DataObject
) -> None:
    """Wherever base64 happens to spell a prefix, also at a key's length before its end."""
    blob = _url_safe(seed, size).rstrip("=")
    most = len(blob) - 100
    near_its_end = st.integers(20, 300).map(lambda rest: len(blob) - rest)
    at = data.draw(st.one_of(st.integers(100, most), near_its_end))
    _unchanged(blob[:at] + sign + prefix + LETTERS + blob[at:])


@quick
@given(seeds, sizes, st.sampled_from(["AKIA", "ASIA", "AIza"]), st.sampled_from("/+A"), st.data())
def test_a_prefix_without_a_sign_in_either_kind_of_base64(
    seed: int, size: int, prefix: str, sign: str, data: st.DataObject
) -> None:
    """What AWS's and Google's keys begin with may stand in standard base64 as well."""
    blob = _standard(seed, size).rstrip("=")
    at = data.draw(st.integers(100, len(blob)))
    _unchanged(blob[:at] + sign + prefix + LETTERS.upper() + LETTERS + blob[at:])


@quick
@given(seeds, sizes, st.sampled_from(PREFIXES), st.sampled_from(["", "x ", "/", "=", "key_is_"]))
def test_what_is_longer_than_a_key_is_none(seed: int, size: int, prefix: str, before: str) -> None:
    """Base64 of a thousand signs that begins like a key is no key."""
    if prefix != "pypi-AgE":  # eight signs are no chance
        _unchanged(before + prefix + _url_safe(seed, size))


BESIDE: dict[str, Callable[[str, str], object]] = {
    "next field": lambda blob, text: {"a": blob, "b": text, "c": blob},
    "blank": lambda blob, text: f"{blob} {text} {blob}",
    "quotes": lambda blob, text: f'{blob}"{text}"{blob}',
    "line": lambda blob, text: f"{blob}\n{text}\n{blob}",
    "json": lambda blob, text: json.dumps({"a": blob, "b": text, "c": blob}),
    "list": lambda blob, text: [blob, text, blob],
}


@pytest.mark.parametrize("place", BESIDE.values(), ids=list(BESIDE))
@pytest.mark.parametrize("make", [_standard, _url_safe], ids=["base64", "url-safe"])
@pytest.mark.parametrize("text", SECRETS.values(), ids=list(SECRETS))
def test_keys_beside_base64_are_cut(
    text: tuple[str, str], make: Callable[[int, int], str], place: Callable[[str, str], object]
) -> None:
    """A secret right beside data is cut, and the data is not."""
    whole, secret = text
    blob = make(1, 3_000)
    kept = json.dumps(redacted(place(blob, whole)))
    assert secret not in kept
    assert REDACTED in kept
    assert kept.count(blob) == 2


@pytest.mark.parametrize(
    "text",
    ["sk-", "-eyJ", "token:", "token=", "pwd=", "cookie=", "secret=(", "AKIA/", "://a:", "basic "],
)
def test_nothing_takes_the_square_of_its_length(text: str) -> None:
    """A text that repeats what rules begin with is searched once, not once for each of them."""
    body = payload.encode({"x": text * (400_000 // len(text))})
    start = time.process_time()
    Redactor().body(body)
    assert time.process_time() - start < 10  # it takes 0.1 s; the square of it took minutes
