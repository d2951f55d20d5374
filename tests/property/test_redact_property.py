"""Redaction, with secrets planted anywhere."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from asynctrack._capture.redact import REDACTED, Redactor, _cut, _found
from asynctrack._capture.secrets import probes, rules, suspects
from asynctrack._common import payload
from tests.property.strategies import json_like, quick, thorough, valid_text

CORE = "Zq7Xw9Kv3Jp5Hd2Rt8"
"""In every secret here, and in nothing else."""

_core = st.just(CORE)
secrets = st.one_of(
    _core.map("sk-{}".format),
    _core.map("ghp_{}abc".format),
    _core.map("github_pat_{}abc".format),
    _core.map("lsv2_{}".format),
    _core.map("xoxb-{}".format),
    _core.map("AIza{}0123456789abcdef".format),
    _core.map("Bearer {}".format),
    _core.map("https://user:{}@host/path".format),
    _core.map("API_KEY={}".format),
    _core.map("password='{}'".format),
    _core.map("password: {}".format),
    _core.map("--api-key {}".format),
    _core.map('{{"secret": {{"value": "{}", "n": [1]}}}}'.format),
    _core.map('["x-api-key", "{}"]'.format),
    _core.map("glpat-{}".format),
    _core.map('{{"client_secret": "{}"}}'.format),
    _core.map("{{'access_token': '{}'}}".format),
    _core.map("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----".format),
)
# Not a letter, digit, or a sign that a secret may go on or begin with: it would be another text.
around = st.text(st.characters(exclude_categories=["Cs", "L", "N", "M", "P", "S"]), max_size=5)
surroundings = st.one_of(around, st.sampled_from(["a ", "ü ", "\n", "\\ ", '" ', "x: "]))
planted = st.tuples(surroundings, secrets, surroundings).map("".join)


def _nest(inner: Any, path: list[Any]) -> Any:
    for step in path:
        if step == "json":
            inner = json.dumps({"k": inner, "n": 1}, ensure_ascii=False)
        elif isinstance(step, str):
            inner = {"a": 1, step: inner}
        elif step is None:
            inner = [None, inner, "after"]
        else:
            inner = (inner, step)
    return inner


paths = st.lists(st.one_of(st.none(), st.integers(0, 9), st.sampled_from(["k", "ü", "name"])))


@thorough
@given(planted, paths, st.booleans(), json_like)
@example("\x1fsk-" + CORE, [], False, None)
def test_planted_secrets_are_cut(text: str, path: list[Any], inside: bool, beside: Any) -> None:
    """A secret at any place is cut, in JSON in a string too, and the result is valid JSON."""
    value = _nest(text, (["json"] if inside else []) + path)
    body = payload.encode({"time_unix_nano": 1, "data": [beside, value]})
    line = Redactor().body(body)
    assert CORE.encode() not in line
    assert REDACTED.encode() in line
    json.loads(line)


@thorough
@given(json_like)
def test_result_is_always_json(value: Any) -> None:
    """Whatever is cut, the line stays valid JSON with the same fields at its top."""
    body = payload.encode({"time_unix_nano": 1, "data": value, "end": True})
    cut = json.loads(_cut(body))
    assert (cut["time_unix_nano"], cut["end"]) == (1, True)


# Pieces that rules are made of, in any order: what finds the edges of the rules.
_pieces = st.sampled_from(
    [
        *(probe.decode() for probe, _ in rules()),
        *(probe.decode().upper() for probe, _ in rules()),
        '"', "'", "\\", "\\n", ":", "=", " ", "\t", "\n", "@", "/", "://", "\u00a0", "\u2003",
        "ſ", "K", "é", "-", "_", ".", ";", ",", "&", "[", "{", CORE, CORE.lower(), "abcd", "x",
        "eyJ", "AIza", "AKIA", "Basic dXNlcjpwYXNzd29yZA==", '": "', '\\": \\"', "' : '",
        '": {"', '": ["', "': ['", '\\": {\\"', '","', "]", "}", "1234", " is ", "--", ": ",
    ]
)  # fmt: skip
jumble = st.lists(_pieces, max_size=12).map("".join)


@thorough
@given(st.one_of(jumble, valid_text, planted))
@example("amqp://user:pass\u00a0word@host")
def test_the_question_is_never_narrower_than_the_rules(text: str) -> None:
    """Wherever a rule cuts something, the two questions asked first say yes."""
    for body in (payload.encode({"x": text}), payload.encode({text: [text]}), text.encode()):
        if [*_found(body, 0, body.lower(), rules(), True)]:
            assert probes()(body)
            assert suspects(body)


@thorough
@given(st.one_of(jumble, planted), st.booleans())
@example("api_key=", False)
@example("secret' : ", False)
@example("'api_key':", False)
def test_jumbles_stay_json(text: str, nested: bool) -> None:
    """Cutting through quotes, escapes and line breaks leaves valid JSON, and is done at once."""
    value = json.dumps({"k": text}) if nested else text
    body = payload.encode({"x": value, text: 1, "end": True})
    cut = _cut(body)
    assert json.loads(cut)["end"] is True


@quick
@given(json_like)
def test_a_function_may_do_anything(value: Any) -> None:
    """Whatever the user's function returns, numbers stay and the line is valid JSON."""
    line = Redactor(lambda text: text[::-1] + '"\\\n').body(
        payload.encode({"time_unix_nano": 1, "data": value})
    )

    def numbers(item: Any) -> list[Any]:
        if isinstance(item, dict):
            return [n for inner in item.values() for n in numbers(inner)]
        if isinstance(item, list):
            return [n for inner in item for n in numbers(inner)]
        return [item] if isinstance(item, (int, float)) else []

    assert sorted(map(repr, numbers(json.loads(line)["data"]))) == sorted(map(repr, numbers(value)))


@quick
@given(st.text(string.ascii_lowercase + " .,", max_size=200))
def test_plain_words_stay(text: str) -> None:
    """Words in lower case with blanks between them are never cut."""
    body = payload.encode({"x": text})
    if "secret" not in text and "passw" not in text:
        assert Redactor().body(body) == body
