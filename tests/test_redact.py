"""Redaction: secrets are cut out of everything that is stored, and nothing else is."""

from __future__ import annotations

import functools
import json
import logging
import re
import uuid
from typing import Any

import pytest

from asynctrack import OptionError, _payload
from asynctrack._capture import Capture
from asynctrack._observe import Observations
from asynctrack._options import compile_redact
from asynctrack._redact import _RULES, REDACTED, Redactor, _automaton, _cut_known, is_secret_name

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"

# For each rule: a text with a secret in it, and what must be gone.
SECRETS = {
    "openai": ("sk-proj-Ab1_Cd2-Ef3Gh4Ij5Kl6", "Ab1_Cd2-Ef3Gh4Ij5Kl6"),
    "anthropic": ("key sk-ant-api03-Ab1Cd2Ef3Gh4Ij5", "Ab1Cd2Ef3Gh4Ij5"),
    "langsmith": ("lsv2_pt_0123456789abcdef0123", "0123456789abcdef0123"),
    "github classic": ("ghp_0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "github oauth": ("gho_0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "github server": ("ghs_0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "github fine": ("github_pat_0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "hugging face": ("hf_0123456789abcdefABCDEF0123456789", "0123456789abcdefABCDEF0123456789"),
    "slack": ("xoxb-0123456789-abcdef", "0123456789-abcdef"),
    "google": ("AIzaSyA0123456789abcdefABCDEF01234567", "SyA0123456789abcdef"),
    "aws": ("AKIA0123456789ABCDEF", "0123456789ABCDEF"),
    "aws session": ("ASIA0123456789ABCDEF", "0123456789ABCDEF"),
    "jwt": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0", "eyJzdWIi"),
    "bearer": ("Authorization: Bearer 0123abcdef.~+/=", "0123abcdef"),
    "basic": ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
    "private key": (PEM, "MIIEow"),
    "address": ("postgres://user:hunter2hunter2@db/x", "hunter2hunter2"),
    "address, odd": ("amqp://user:hunter2\u00a0hunter2@db/x", "hunter2"),
    "assigned": ("export OPENAI_API_KEY=hunter2hunter2 && run", "hunter2hunter2"),
    "assigned, quoted": ('client = OpenAI(api_key="hunter2 hunter2")', "hunter2"),
    "assigned, in quotes": ("connect(password='hunter2 hunter2')", "hunter2"),
    "in an address": ("https://x.y/z?a=1&access_token=hunter2&b=2", "hunter2"),
    "presigned": ("https://s3/x?X-Amz-Security-Token=hunter2hunter2", "hunter2hunter2"),
    "json": ('{"a": 1, "client_secret": "hunter2 \\"hunter2\\" \\\\ü", "b": 2}', "hunter2"),
    "json in json": (json.dumps({"x": json.dumps({"password": "hunter2"})}), "hunter2"),
    "repr of a dictionary": ("headers: {'x-api-key': 'hunter2 hunter2', 'b': 1}", "hunter2"),
    "repr, quoted": ("""{'password': "hunter2's"}""", "hunter2"),
    "after a line break": ("a\nsk-0123456789abcdefABCD", "0123456789abcdefABCD"),
    "after a tab": ("a\tsk-0123456789abcdefABCD", "0123456789abcdefABCD"),
    "after a control sign": ("a\x1fsk-0123456789abcdefABCD", "0123456789abcdefABCD"),
    "after another script": ('{"k": "\\u4f60sk-0123456789abcdefABCD"}', "0123456789abcdefABCD"),
    "in brackets": ("(sk-0123456789abcdefABCD)", "0123456789abcdefABCD"),
}

NAMES = [
    "api_key", "apikey", "apiKey", "api-key", "x-api-key", "OPENAI_API_KEY", "openai_api_key",
    "aws_secret_access_key", "SecretAccessKey", "accessKey", "private_key", "client_secret",
    "secret", "password", "passwd", "db_password", "Authorization", "access_token",
    "refresh_token", "aws_session_token", "x-amz-security-token",
]  # fmt: skip

LOOK_ALIKES = [
    "risk-adjusted-return-analysis",
    "task-management-in-the-cloud-for-teams",
    "Basic understanding, basic functionality, basic requirements",
    "the bearer certificates and bearer authentication",
    "AsiaPacificOperationsTeamOfTheYear",
    "The secret of a good joke is timing; ask for the password.",
    "max_tokens=100, total_tokens: 5, time_to_first_token=0.25",
    "eos_token='</s>' pad_token=\"<pad>\"",
    "if password == other: pass",
    "https://example.com:8080/a@b",
    "see https://example.com:8080\nor mail me@example.com",
    "xoxo, hugs and kisses",
    "The keyboard's keys: api, access, private",
]

LOOK_ALIKE_FIELDS: list[dict[str, Any]] = [
    {"max_tokens": 100},
    {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11},
    {"max_tokens": "100"},
    {"tokens": "none", "token": "fish", "event": "llm_new_token"},
    {"eos_token": "</s>"},
    {"kwargs": {"openai_api_key": {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}}},
    {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]},
    {"key": "value", "keys": ["a"], "author": "x", "passage": "text"},
]


def redacted(value: Any, custom: Any = None) -> Any:
    """Return what is read back of a value that went through redaction."""
    body = _payload.encode({"time_unix_nano": 1, "event": "text", "data": value})
    line = Redactor(custom).body(body)
    assert line.startswith(b'{"time_unix_nano":1,')
    return json.loads(line)["data"]


@pytest.mark.parametrize("text", SECRETS.values(), ids=list(SECRETS))
@pytest.mark.parametrize(
    "place",
    [
        lambda text: text,
        lambda text: ["before", text, "after"],
        lambda text: {"k": {"k": text}},
        lambda text: {text: "value"},
        lambda text: ("tuple", (text,)),
        lambda text: text.encode(),
        lambda text: b"\xff\xfe" + text.encode(),
        lambda text: functools.reduce(lambda inner, _: {"k": [inner]}, range(25), text),
        lambda text: json.dumps({"k": text, "n": 1}),
        lambda text: json.dumps({"k": text}, ensure_ascii=False),
        lambda text: ValueError(text),
        lambda text: f"a long story ü {text} and its end",
        lambda text: object.__new__(type("C", (), {"__repr__": lambda self: f"C {text}"})),
    ],
    ids=[
        "text", "list", "fields", "key", "tuple", "bytes", "binary", "depth 50", "json",
        "raw json", "exception", "story", "repr",
    ],
)  # fmt: skip
def test_each_rule_in_each_place(text: tuple[str, str], place: Any) -> None:
    """Each kind of secret is cut out wherever it is, and what is left is valid JSON."""
    whole, secret = text
    kept = redacted(place(whole))
    assert secret not in json.dumps(kept, ensure_ascii=False)
    assert secret.encode() not in json.dumps(kept).encode()
    assert REDACTED in json.dumps(kept)


def test_every_rule_is_tested() -> None:
    """No rule is without a secret that needs it: dropping any one lets something through."""
    texts = [_payload.encode({"x": whole}) for whole, _ in SECRETS.values()]
    texts += [_payload.encode({name: "hunter2"}) for name in NAMES]
    texts += [
        _payload.encode({name: "hunter2"})
        for name in ("access-key", "privateKey", "private-key", "API-KEY")
    ]
    unused = [
        probe
        for probe, pattern in _RULES
        if not any(
            pattern.match(body, at)
            for body in texts
            for at in (hit.start() for hit in re.finditer(re.escape(probe), body.lower()))
        )
    ]
    assert unused == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["x", 'a "quoted" one', "back\\slash", "ü\n\t", "\\", 'end"'])
def test_fields_named_for_a_secret(name: str, value: str) -> None:
    """The text in a field named for a secret is cut whole, whatever it looks like."""
    assert redacted({name: value, "b": "kept"}) == {name: REDACTED, "b": "kept"}
    inner = json.dumps({name: value, "b": "kept"}, ensure_ascii=False)
    assert json.loads(redacted(inner)) == {name: REDACTED, "b": "kept"}
    assert is_secret_name(name)


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_prose_is_left_alone(text: str) -> None:
    """What only looks like a secret stays as it is."""
    assert redacted(text) == text
    assert Redactor().text(text) == text


@pytest.mark.parametrize("fields", LOOK_ALIKE_FIELDS, ids=str)
def test_fields_that_are_no_secret(fields: dict[str, Any]) -> None:
    """Counts of tokens and LangChain's own markers for secrets stay as they are."""
    assert redacted(fields) == fields


@pytest.mark.parametrize("name", ["max_tokens", "input_tokens", "token", "eos_token", "key", "n"])
def test_names_that_are_no_secret(name: str) -> None:
    """A hyperparameter is not taken for a secret by its name."""
    assert not is_secret_name(name)


def test_nothing_to_cut_changes_nothing() -> None:
    """Without a secret the very same bytes come out."""
    body = _payload.encode({"time_unix_nano": 1, "data": {"max_tokens": 5, "x": "fish"}})
    assert Redactor().body(body) is body


@pytest.mark.parametrize("text", SECRETS.values(), ids=list(SECRETS))
def test_single_values(text: tuple[str, str]) -> None:
    """A value that goes to the Run is redacted by the same rules."""
    whole, secret = text
    if secret != "MIIEow" or "\n" not in whole:
        assert secret not in Redactor().text(whole)
    assert secret not in Redactor().text(f"before {whole} after")


@pytest.mark.parametrize("text", SECRETS.values(), ids=list(SECRETS))
def test_the_question_covers_the_rules(text: tuple[str, str]) -> None:
    """The automaton that is asked first says yes to each secret."""
    body = _payload.encode({"x": text[0]})
    assert _cut_known(body) != body
    assert _automaton()(body)


def test_the_question_can_say_no() -> None:
    """The automaton says no to what holds nothing of the kind."""
    assert not _automaton()(b'{"x":"the quick brown fox","max_tokens":5}')


# -- the user's own -----------------------------------------------------------------------------


def test_patterns_cut_in_values_and_keys() -> None:
    """The user's expressions are replaced in every string, also in keys."""
    custom = compile_redact([r"\d{3}-\d{4}", re.compile("fish", re.IGNORECASE)])
    assert redacted({"call 555-1234": ["FISH and chips", {"n": 5551234}]}, custom) == {
        "call [REDACTED]": ["[REDACTED] and chips", {"n": 5551234}]
    }


def test_a_function_sees_every_string() -> None:
    """The user's function is given every string below the event's own fields, once."""
    seen: list[str] = []

    def custom(text: str) -> str:
        seen.append(text)
        return text

    redacted({"a": ["b", {"c": None}], "event": "d", "name": {"span_id": "e"}}, custom)
    assert sorted(seen) == ["a", "b", "c", "d", "e", "event", "name", "span_id"]


def test_the_events_own_fields_stay() -> None:
    """Ids, the kind of event and the names of fields are not the user's to change."""
    body = _payload.encode(
        {
            "time_unix_nano": 1, "event": "text", "span_id": "s", "trace_id": "t",
            "parent_span_id": "p", "name": "n", "data": "d",
        }
    )  # fmt: skip
    assert json.loads(Redactor(lambda text: "X").body(body)) == {
        "time_unix_nano": 1, "event": "text", "span_id": "s", "trace_id": "t",
        "parent_span_id": "p", "name": "X", "data": "X",
    }  # fmt: skip


def test_keys_that_become_equal_are_kept_apart() -> None:
    """Two fields whose names only differed in what was cut keep both values."""
    kept = redacted({"a": 1, "b": 2, "c": 3}, lambda text: "X")
    assert sorted(kept.values()) == [1, 2, 3]
    assert all(name.startswith("X") for name in kept)


def test_both_apply() -> None:
    """The user's function comes on top of the default rules, not in their place."""
    assert redacted(
        "sk-0123456789abcdefABCD and fish", lambda text: text.replace("fish", "chips")
    ) == ("[REDACTED] and chips")


def test_single_values_fail_closed() -> None:
    """A value that the user's function fails on is not let through."""

    def custom(text: str) -> str:
        raise ValueError(text)

    assert Redactor(custom).text("harmless") == REDACTED


@pytest.mark.parametrize("bad", [5, [5], "(", ["a", "("], b"bytes", [re.compile(b"x")], "x*", ""])
def test_patterns_that_cannot_work(bad: Any) -> None:
    """What is no expression, or would match everywhere, is refused when it is given."""
    with pytest.raises(OptionError, match="redact"):
        compile_redact(bad)


def test_no_redaction_of_the_users_is_nothing() -> None:
    """Without the option there is no function."""
    assert compile_redact(None) is None


@pytest.mark.parametrize("error", [ValueError, RecursionError, KeyError])
def test_a_raising_function_fails_closed(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the user's function raises, the event is kept without its payload, and says so."""

    def custom(text: str) -> str:
        raise error("hunter2")

    capture = Capture(tokens="stream", redactor=Redactor(custom), observations=Observations())
    with caplog.at_level(logging.DEBUG):
        body = capture.on_chain_start(
            {"name": "hunter2"}, {"topic": "hunter2"}, run_id=uuid.UUID(int=1), tags=["hunter2"]
        )
    event = json.loads(body)
    assert event.pop("time_unix_nano") > 0
    assert event == {
        "event": "chain_start",
        "span_id": str(uuid.UUID(int=1)),
        "trace_id": str(uuid.UUID(int=1)),
        "data": {"$cut": "redaction", "error": error.__name__},
    }
    assert "hunter2" not in caplog.text


def test_tracebacks() -> None:
    """Secrets in an exception's message and in its causes are cut."""
    capture = Capture(tokens="stream", redactor=Redactor(), observations=Observations())
    try:
        try:
            raise ValueError("no access with sk-0123456789abcdefABCD")
        except ValueError as inner:
            raise RuntimeError("postgres://user:hunter2hunter2@db refused") from inner
    except RuntimeError as error:
        body = capture.on_chain_error(error, run_id=uuid.UUID(int=1))
    described = json.loads(body)["error"]
    assert described["message"] == "postgres://user:[REDACTED]@db refused"
    assert described["causes"][0]["message"] == "no access with [REDACTED]"
