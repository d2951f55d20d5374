"""Redaction: secrets are cut out of everything that is stored, and nothing else is."""

from __future__ import annotations

import functools
import json
import logging
import re
import uuid
from typing import Any

import pytest

from asynctrack import OptionError
from asynctrack._capture.capture import Capture
from asynctrack._capture.observations import Observations
from asynctrack._capture.redact import REDACTED, Redactor, _found
from asynctrack._capture.secrets import is_secret_name, rules, suspects
from asynctrack._common import payload
from asynctrack._options import compile_redact

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
    "github user": ("ghu_0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "github refresh": ("ghr_0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "gitlab": ("glpat-0123456789abcdef-_AB", "0123456789abcdef"),
    **{
        f"stripe {kind}": (f"{kind}_0123456789abcdefABCD", "0123456789abcdefABCD")
        for kind in ("sk_live", "rk_live", "sk_test", "rk_test")
    },
    "stripe webhook": ("whsec_0123456789abcdefABCD", "0123456789abcdefABCD"),
    "replicate": ("r8_0123456789abcdefABCDEF0123456789", "0123456789abcdef"),
    "npm": ("//registry/:_authToken=npm_0123456789abcdefABCDEF0123456789", "0123456789abcdef"),
    "npm alone": ("npm_0123456789abcdefABCDEF0123456789", "0123456789abcdef"),
    "pypi": ("pypi-AgEIcHlwaS5vcmcCJDAxMjM0", "cHlwaS5vcmcCJDAxMjM0"),
    "groq": ("gsk_0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "pinecone": ("pcsk_0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "xai": ("xai-0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "perplexity": ("pplx-0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "tavily": ("tvly-0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "nvidia": ("nvapi-0123456789abcdefABCDEF", "0123456789abcdefABCDEF"),
    "slack app": ("xapp-1-A0123-0123456789-abcdef", "0123456789-abcdef"),
    "slack hook": ("https://hooks.slack.com/services/T000/B000/abcdef0123", "abcdef0123"),
    "google session": ("ya29.a0AfB_by-0123456789abcdef", "0123456789abcdef"),
    "pgp": (PEM.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"), "MIIEow"),
    "azure": ("AccountName=x;AccountKey=0123456789abcdef/+ABCD==;Endpoint=y", "0123456789abcdef"),
    "azure address": ("https://x/y?sv=1&sig=0123456789abcdef%2BABCD&x=1", "0123456789abcdef"),
    "presigned address": (
        "https://s3/x?X-Amz-Signature=0123456789abcdef0123456789abcdef",
        "0123456789abcdef",
    ),
    "yaml": ("api_key: hunter2hunter2\npassword: hunter2", "hunter2"),
    "yaml, quoted": ("password: 'hunter two' # x", "hunter two"),
    "yaml, in double quotes": ('password: "hunter two"', "hunter two"),
    "a header": ("X-Api-Key: hunter2hunter2", "hunter2hunter2"),
    "a header without a scheme": ("Authorization: hunter2hunter2", "hunter2hunter2"),
    "a header with another": ("Authorization: Token hunter2=hunter2", "hunter2=hunter2"),
    "a cookie": ("Cookie: session=hunter2hunter2; theme=dark", "hunter2hunter2"),
    "an option": ("run --api-key hunter2 --verbose", "hunter2"),
    "a longer option": ("run --db-password hunter --verbose", "hunter"),
    "an option, quoted": ("""run --password 'hunter2 hunter2'""", "hunter2"),
    "prose": ("my password is hunter2, do not tell", "hunter2"),
    "prose, a key": ("the API key is: 0123abcdef", "0123abcdef"),
    "a pair": (json.dumps(["x-api-key", "hunter2hunter2hunter2"]), "hunter2"),
    "a pair in repr": ("headers=[('x-api-key', 'hunter2hunter2hunter2')]", "hunter2"),
    "a named item": (json.dumps({"name": "password", "value": "hunter2"}), "hunter2"),
    "a structure": (json.dumps({"secret": {"value": ["hunter2"], "n": 1}}), "hunter2"),
    "a list": (json.dumps({"passwords": ["hunter2", "x"], "n": {"a": [1]}}), "hunter2"),
    "a list in repr": ("{'passwords': ['hunter2', ('x',)], 'b': 1}", "hunter2"),
    "a number": (json.dumps({"password": 12345678, "n": 1}), "12345678"),
    "a number in repr": ("{'password': 12345678, 'b': 1}", "12345678"),
    "a token by its look": (json.dumps({"token": "Zq7Xw9Kv3Jp5Hd2Rt8"}), "Zq7Xw9Kv3Jp5Hd2Rt8"),
    "in brackets": ("(sk-0123456789abcdefABCD)", "0123456789abcdefABCD"),
    "a template": ("headers.password=`hunter2`", "hunter2"),
    "a call with a literal": ("connect(password=SecretStr('hunter2'))", "hunter2"),
    "behind a short name": ("API_KEY=ab.Zq7Xw9Kv3Jp5Hd2Rt8", "Zq7Xw9Kv3Jp5Hd2Rt8"),
    "a number, assigned": ("PASSWORD=12345678", "12345678"),
    "in groups": ("secret=123-ABC-456", "123-ABC-456"),
    "with signs": ("password=a1?Zq7Xw9+K", "Zq7Xw9"),
}

# Keys that say what they are, and may stand alone.
KEYS = [
    SECRETS[name][0]
    for name in (
        "openai", "langsmith", "github classic", "github oauth", "github server", "github fine",
        "github user", "github refresh", "hugging face", "slack", "google", "aws", "aws session",
        "jwt", "gitlab", "stripe sk_live", "stripe rk_live", "stripe sk_test", "stripe rk_test",
        "stripe webhook", "replicate", "npm alone", "pypi", "groq", "pinecone", "xai", "perplexity",
        "tavily", "nvidia", "slack app", "google session",
    )
]  # fmt: skip
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

NAMES = [
    "api_key", "apikey", "apiKey", "api-key", "x-api-key", "OPENAI_API_KEY", "openai_api_key",
    "aws_secret_access_key", "SecretAccessKey", "accessKey", "private_key", "client_secret",
    "secret", "password", "passwd", "db_password", "Authorization", "access_token",
    "refresh_token", "aws_session_token", "x-amz-security-token", "authToken", "auth-token",
    "accessToken", "access-token", "refreshToken", "refresh-token", "sessionToken",
    "session-token", "securityToken", "bearerToken", "bearer-token", "apiToken", "api-token",
    "idToken", "id-token", "passphrase", "AccountKey",
]  # fmt: skip

LIKELY = "Zq7Xw9Kv3Jp5Hd2Rt8"

# Names that are of a secret only where the value looks like one.
SOFT_NAMES = ["token", "xToken", "credential", "credentials", "pwd", "db_pwd", "cookie", "cookies"]

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
    "password: required, at least 8 characters; secret: none; api_key: Optional[str] = None",
    "The password is required. The secret was revealed; the token is expired.",
    "def login(user: str, password: str, token: str | None) -> None: ...",
    "api_key, gpt-4o-mini, us-east-1 and password, in this order",
    "['api_key', 'gpt-4o-mini', 'text-embedding-3-small-2024']",
    "--help, --verbose x and --token <your token> or --password $PASSWORD",
    "the secretary: room 4b, phone 123456, the secretariat is Room4B12",
    "pwd=/home/user1/project2 && cd ~/x; pwd",
    "cookie: chocolate chip. token: fish, next token prediction 2024abcdefghij",
    "npm_config_registry and npm_lifecycle_event, r8_unorm_srgb, hf_hub_download",
    "figsig=abc, design=0123456789abcdefghij",
    "The keyboard's keys: api, access, private",
    "task_live_monitoringservice and disk_test_configuration",
    "this.password=e,t.secret=n.secret||r(),o.token=t.next();e.apiKey=!0",
    'api_key=os.environ["X"] and secret=process.env.SECRET; password=None',
    "x({password:e?1:null,secret:function(e){return e},cookie:e=>t.x})",
    'h={Authorization:"Bearer "+t};document.cookie="a="+e+"; path=/"',
    "`https://${user}:${password}@${host}` 'https://'+u+':'+p+'@'+h",
    ";sig=getSignatureOfWhateverThisIs",
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
    {"token": "fish and chips", "data": {"token": " 2024"}, "cut_tokens": 12345},
    {"token": "gpt-4o-mini-2024", "eosToken": LIKELY, "bos_token": "<|begin_of_text|>"},
    {"usage": {"input_tokens": 12345, "output_token_details": {"reasoning": 12345}}},
    {"password_changed_at": 1700000000, "api_key_count": 12345, "secret": True, "password": None},
    {"pwd": "/home/user1", "credentials": "default", "cookie": "chocolate", "cookies": ["oat"]},
    {"properties": {"password": {"type": "string", "title": "Password", "minLength": 8}}},
    {"required": ["api_key", "gpt-4o-mini-search-preview", "password", "temperature"]},
    {"secretary": "Room4B12x", "passwords": [], "secrets": {}},
]


def redacted(value: Any, custom: Any = None) -> Any:
    """Return what is read back of a value that went through redaction."""
    body = payload.encode({"time_unix_nano": 1, "event": "text", "data": value})
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
    texts = [payload.encode({"x": whole}) for whole, _ in SECRETS.values()]
    texts += [payload.encode({name: "hunter2"}) for name in NAMES]
    texts += [payload.encode({name: LIKELY}) for name in SOFT_NAMES]
    texts += [
        payload.encode({name: "hunter2"})
        for name in (
            "access-key",
            "privateKey",
            "private-key",
            "API-KEY",
            "api key",
            "access key",
            "private key",
        )
    ]
    unused = [
        probe
        for probe, pattern in rules()
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


@pytest.mark.parametrize("name", SOFT_NAMES)
def test_fields_that_may_hold_a_secret(name: str) -> None:
    """A text in a field like ``token`` is cut where it looks made up, and only there."""
    assert redacted({name: LIKELY, "b": "kept"}) == {name: REDACTED, "b": "kept"}
    assert redacted(json.dumps({name: LIKELY})) == json.dumps({name: REDACTED})
    assert redacted({name: "fish"}) == {name: "fish"}


def test_structures_keep_their_shape() -> None:
    """Of a list or an object that is named for a secret, what it looks like is kept."""
    whole = {
        "secrets": {"a": ["x", {"b": "y", "n": 1234567, "small": 3, "type": "string"}], "c": None},
        "passwords": ["p", "q"],
        "password": 12345678,
        "kept": {"c": "d"},
    }
    cut = {
        "secrets": {
            "a": [REDACTED, {"b": REDACTED, "n": REDACTED, "small": 3, "type": "string"}],
            "c": None,
        },
        "passwords": [REDACTED, REDACTED],
        "password": REDACTED,
        "kept": {"c": "d"},
    }
    assert redacted(whole) == cut
    assert json.loads(redacted(json.dumps(whole))) == cut
    assert json.loads(redacted(json.dumps(whole, indent=2, ensure_ascii=False))) == cut
    text = redacted(repr(whole))
    for secret in ("'x'", "'y'", "'p'", "'q'", "1234567"):
        assert secret not in text
    assert "'kept': {'c': 'd'}" in text


def test_what_is_kept_of_a_structure_is_searched_too() -> None:
    """A description in there is kept, but for the secrets in it."""
    whole = {"secret": {"description": "use sk-0123456789abcdefABCD", "v": "x"}}
    assert redacted(whole) == {"secret": {"description": f"use {REDACTED}", "v": REDACTED}}


@pytest.mark.parametrize(
    "before",
    [
        "", " ", "x=", "x: ", "x:", "/", "/a/b/", '"', "'", "`", "(", "[", "<", ">", ",", ";", "|",
        "@", "Bearer ", "a\n", "a\tb\n\t", "\x1f", "\\n", "a%3D", "a%22", "\x1b[31m", "\x1b[1;32m",
        "ü", "你", "key_is_", "my-key-is-", "KEY_", "v2_", "user1-", f"session_{UUID}_user_{UUID}_",
        "a-slug-of-many-words-that-goes-on-for-longer-than-most-names-of-anything-do-", "+", "==",
    ],
)  # fmt: skip
def test_where_a_key_begins(before: str) -> None:
    """A key is cut behind any sign, behind an escaped one, and behind a name with _ or -."""
    for key in KEYS:
        assert key not in redacted(before + key)
        assert key not in json.loads(redacted(json.dumps([before + key])))[0]


@pytest.mark.parametrize("key", KEYS)
def test_a_prefix_in_another_case_is_none(key: str) -> None:
    """Vendors' prefixes are in one case: what is in another is part of something else."""
    text = f"x {key.swapcase()} x"
    assert redacted(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "authorization: bearer {}", "AUTHORIZATION: BEARER {}", "Api_Key={}", "PASSWORD={}",
        "https://S3/x?x-amz-signature=0123456789ABCDEF0123456789ABCDEF{}", "x?SIG={}", "basic {}==",
        "HTTPS://HOOKS.SLACK.COM/services/{}",
    ],
)  # fmt: skip
def test_names_in_any_case(text: str) -> None:
    """What is the same in any case is cut in any."""
    secret = "Zq7Xw9Kv3Jp5Hd2Rt8Ab1Cd4Ef"
    if "signature" in text:
        secret = "0123456789abcdef"
    assert secret not in redacted(text.format(secret))


@pytest.mark.parametrize("length", [20, 48, 108, 164, 300, 500])
@pytest.mark.parametrize("after", ["", " x", "\n", '"', ".", "_and_more", "/x"])
def test_keys_of_any_length_are_cut_whole(length: int, after: str) -> None:
    """The longest keys there are, and some more, are cut to their end."""
    key = "sk-" + (LIKELY * 30)[: length - len(after)]
    assert redacted(key + after).startswith(REDACTED)
    assert LIKELY[:8] not in redacted(key + after)


def test_what_follows_a_private_key_stays() -> None:
    """A PEM key is cut to its end, the next field of a list and all other text is not."""
    assert redacted(f"a {PEM} b") == f"a {REDACTED} b"
    assert redacted([PEM, LIKELY]) == [REDACTED, LIKELY]
    assert redacted(json.dumps({"k": PEM, "n": "x"})) == json.dumps({"k": REDACTED, "n": "x"})
    assert redacted(PEM[:45] + "cut off") == REDACTED


def test_a_secret_in_a_long_text_in_a_field_that_may_hold_one() -> None:
    """A field that is not cut, as it holds prose, is searched all the same."""
    text = f"{'so it is ' * 200}token={LIKELY} and {'so on ' * 200}"
    assert redacted({"token": text}) == {"token": text.replace(LIKELY, REDACTED)}


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_prose_is_left_alone(text: str) -> None:
    """What only looks like a secret stays as it is."""
    assert redacted(text) == text
    assert Redactor().text(text) == text


@pytest.mark.parametrize("fields", LOOK_ALIKE_FIELDS, ids=str)
def test_fields_that_are_no_secret(fields: dict[str, Any]) -> None:
    """Counts of tokens and LangChain's own markers for secrets stay as they are."""
    assert redacted(fields) == fields


@pytest.mark.parametrize(
    "name", ["max_tokens", "input_tokens", "token", "eos_token", "key", "n", "pwd_x", "secretary"]
)
def test_names_that_are_no_secret(name: str) -> None:
    """A hyperparameter is not taken for a secret by its name."""
    assert not is_secret_name(name)


def test_nothing_to_cut_changes_nothing() -> None:
    """Without a secret the very same bytes come out."""
    body = payload.encode({"time_unix_nano": 1, "data": {"max_tokens": 5, "x": "fish"}})
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
    """The automata that are asked first say yes to each secret."""
    body = payload.encode({"x": text[0]})
    assert [*_found(body, 0, body.lower(), rules(), True)]
    assert suspects(body)


def test_the_question_can_say_no() -> None:
    """The automata say no to what holds nothing of the kind."""
    assert not suspects(b'{"x":"the quick brown fox","max_tokens":5}')


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
    body = payload.encode(
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
