"""Payloads: whatever a chain passes is stored, or a marker that says what it was."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import fractions
import functools
import ipaddress
import json
import math
import pathlib
import subprocess
import sys
import time
import tracemalloc
import types
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pydantic
import pytest
from langchain_core.documents import Document
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from langchain_core.runnables import RunnableLambda
from langgraph.types import Command, Interrupt, Send

from asynctrack._common import careful, convert, marker, payload
from tests.property.strategies import (
    Colour,
    RaisingClass,
    RaisingDict,
    RaisingList,
    RaisingModule,
    RaisingRepr,
    RaisingStr,
    Size,
)

NAN = {"$type": "float", "value": "nan"}
HERE = __name__


def stored(value: Any) -> Any:
    """Return what is read back for a value, after a check that its neighbours are too."""
    line = payload.encode({"before": 1, "x": value, "after": [2]})
    assert b"\n" not in line
    decoded = json.loads(line)
    assert list(decoded) == ["before", "x", "after"]
    assert (decoded["before"], decoded["after"]) == (1, [2])
    return decoded["x"]


class Point(NamedTuple):
    x: int
    y: Any


@dataclasses.dataclass
class Plain:
    name: str
    inner: Any = None
    _hidden: str = "not the data's"
    SHARED: ClassVar[str] = "the class's"
    given: dataclasses.InitVar[str] = "gone by now"


@dataclasses.dataclass(frozen=True)
class Slotted:
    __slots__ = ("name", "score")
    name: str
    score: float


class Slots:
    __slots__ = ("__mangled", "__weakref__", "_hidden", "name", "unset")

    def __init__(self, name: Any) -> None:
        self.name = name
        self._hidden = self.__mangled = "not the data's"

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("slots are read, nothing is asked for")

    @property
    def costly(self) -> Any:
        """Must not run."""
        raise AssertionError("properties are not asked")

    def __repr__(self) -> str:
        return "Slots"


class MoreSlots(Slots):
    __slots__ = ("score",)
    score: float


class NoSlots(MoreSlots):
    """Has a dictionary again."""


class Hides(Slots):
    __slots__ = ()

    @property
    def __dict__(self) -> Any:  # type: ignore[override]  # on purpose
        raise AssertionError("nothing is asked for")


class Private:
    __slots__ = ("_name",)

    def __repr__(self) -> str:
        return "Private"


def slots(kind: type[Slots], **fields: Any) -> Any:
    """An object with slots, and with these fields."""
    value = kind("n")
    for name, item in fields.items():
        setattr(value, name, item)
    return value


class Model(pydantic.BaseModel):
    name: str
    score: float = 0.5
    inner: Any = None


class Keeps(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str


class RaisingModel(pydantic.BaseModel):
    name: str

    def model_dump(self, **kwargs: Any) -> Any:
        raise RuntimeError("no dump")


class RaisingField(Keeps):
    inner: Any = None
    secret: str = pydantic.Field("hush", exclude=True)
    _private: str = "not the data's"

    @pydantic.field_serializer("inner")
    def _never(self, value: Any) -> Any:
        raise RuntimeError("no dump")


class RaisingComputed(pydantic.BaseModel):
    name: str

    @functools.cached_property
    def cached(self) -> str:
        """No field, but kept beside them."""
        return "not a field"

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as pydantic's manual has it
    @property
    def total(self) -> int:
        """Cannot be computed."""
        raise RuntimeError(self.cached)


class RaisingIter:
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("no iteration")

    def __repr__(self) -> str:
        return "RaisingIter()"


class RaisingMapping(collections.UserDict[str, Any]):
    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no iteration")


class RaisingGetattr:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        return "RaisingGetattr()"


class Tensor:
    """Like those of torch and tensorflow."""

    shape = (2, 3)
    dtype = "float32"

    def __repr__(self) -> str:
        raise AssertionError("a tensor on another device is not to be copied for its repr")


class Reals(float):
    pass


class Text(str):
    pass


class Whole(int):
    pass


class Flag(enum.IntFlag):
    A = 1
    B = 2


class Raises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


def a_function(value: Any = None) -> Any:
    """Is named, not called."""


def marked(value: Any, /, **kept: Any) -> dict[str, Any]:
    return {"$type": value if isinstance(value, str) else f"{HERE}.{value.__qualname__}", **kept}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (-(2**63), -(2**63)),
        (2**64 - 1, 2**64 - 1),
        (1.5, 1.5),
        ("", ""),
        ("ü – 漢字 – 😀 – \x00\u2028", "ü – 漢字 – 😀 – \x00\u2028"),
        ([], []),
        (["a", ["b"]], ["a", ["b"]]),
        ((1, (2,)), [1, [2]]),
        ({}, {}),
        ({"a": {"b": [None]}}, {"a": {"b": [None]}}),
        (Text("text"), "text"),
        (Whole(3), 3),
        (Reals(1.5), 1.5),
        (Point(1, "y"), {"x": 1, "y": "y"}),
        (Plain("n", [1]), {"name": "n", "inner": [1]}),
        (Slotted("n", 0.5), {"name": "n", "score": 0.5}),
        (slots(Slots), {"name": "n"}),
        (slots(MoreSlots, score=1), {"name": "n", "score": 1}),
        (slots(NoSlots, score=1, more=[2], _own=3), {"name": "n", "score": 1, "more": [2]}),
        (slots(Hides), {"name": "n"}),
        (Private(), marked(Private, repr="Private")),
        (ipaddress.ip_address("::1"), marked("ipaddress.IPv6Address", repr="IPv6Address('::1')")),
        (slice(1, 2), marked("slice", repr="slice(1, 2, None)")),
        (Model(name="n"), {"name": "n", "score": 0.5, "inner": None}),
        (Keeps.model_validate({"name": "n", "more": [1]}), {"name": "n", "more": [1]}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.UserDict({"a": 1}), {"a": 1}),
        (collections.deque([1, 2]), [1, 2]),
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        ({"a": 1}.keys(), ["a"]),
        (Colour.RED, 1),
        (Colour.NONE, None),
        (Size.SMALL, "small"),
        (Flag.A | Flag.B, 3),
        (uuid.UUID(int=5), str(uuid.UUID(int=5))),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, tzinfo=timezone.utc), "2026-01-02T00:00:00+00:00"),
        (pathlib.Path("/a/b"), "/a/b"),
        (b"text", marked("bytes", utf8="text")),
        (bytearray(b"text"), marked("bytearray", utf8="text")),
        (memoryview(b"text"), marked("memoryview", utf8="text")),
        (b"\xff\x00", marked("bytes", base64="/wA=")),
        (2**64, marked("int", value=str(2**64))),
        (-(2**63) - 1, marked("int", value=str(-(2**63) - 1))),
        (float("nan"), NAN),
        (float("-inf"), marked("float", value="-inf")),
        (1 + 2j, marked("complex", value="(1+2j)")),
        (decimal.Decimal("1.10"), marked("decimal.Decimal", value="1.10")),
        (fractions.Fraction(1, 3), marked("fractions.Fraction", value="1/3")),
        (timedelta(minutes=1), marked("datetime.timedelta", seconds=60.0)),
        (ValueError("wrong"), marked("ValueError", message="wrong")),
        (KeyboardInterrupt(), marked("KeyboardInterrupt", message="")),
        (Plain, marked("type", name="Plain")),
        (a_function, marked("function", name="a_function")),
        (len, marked("builtin_function_or_method", name="len")),
        (range(3), marked("range", repr="range(0, 3)")),
        (Tensor(), marked(Tensor, shape=[2, 3], dtype="float32")),
        (pydantic.SecretStr("hush"), "**********"),
        (pydantic.SecretBytes(b"hush"), "**********"),
        (RaisingIter(), marked(RaisingIter, repr="RaisingIter()")),
        (RaisingGetattr(), marked(RaisingGetattr, repr="RaisingGetattr()")),
        (RaisingRepr(), marked("tests.property.strategies.RaisingRepr", repr_error="ValueError")),
        (RaisingStr("text"), "text"),
        (RaisingList([1]), [1]),
        (RaisingDict(a=1), {"a": 1}),
        (RaisingModel(name="n"), {"name": "n"}),
        (
            RaisingField.model_validate({"name": "n", "inner": Model(name="m"), "more": [1]}),
            {"name": "n", "inner": {"name": "m", "score": 0.5, "inner": None}, "more": [1]},
        ),
        ([RaisingComputed(name="n")], [{"name": "n"}]),
        (RaisingMapping(a=1), marked(RaisingMapping, cut="error", error="RuntimeError")),
        (
            Raises(),
            marked(Raises, message=f"<str() of {HERE}.Raises raised RuntimeError>"),
        ),
    ],
    ids=lambda value: marker.type_name(value) if not isinstance(value, (dict, list)) else "",
)
@pytest.mark.parametrize("path", ["fast", "careful"])
def test_each_kind(value: Any, expected: Any, path: str) -> None:
    """Each kind is stored in one way, whatever its neighbours are."""
    if path == "fast":
        assert stored(value) == expected
    else:
        # What orjson refuses next to it sends all of it through the careful path.
        assert stored([value, "\ud800"]) == [expected, "\\ud800"]


@pytest.mark.parametrize("kind", [RaisingClass, RaisingModule], ids=["value", "class"])
def test_classes_that_raise(kind: type[Any]) -> None:
    """An object whose class raises when it is asked for leaves a marker, and its neighbours."""
    value = kind()
    assert stored([value, "kept"])[1] == "kept"
    assert "$type" in stored(value)


def test_dead_weak_reference() -> None:
    """A proxy of an object that is gone leaves a marker."""
    gone = Plain("n")
    proxy = weakref.proxy(gone)
    del gone
    assert stored([proxy, "\ud800"]) == [
        marked("weakref.ProxyType", repr_error="ReferenceError"),
        "\\ud800",
    ] or stored(proxy)["$type"].startswith("weakref")


def test_commands_of_langgraph() -> None:
    """What nodes of LangGraph return is stored by its fields, with nothing of its class."""
    send = {"node": "next", "arg": {"topic": "fish"}}  # newer versions have more fields
    one = Send("next", {"topic": "fish"})
    assert stored(one).items() >= send.items()
    command = stored(Command(update={"x": 1}, goto=[one, "end"]))
    assert command.pop("goto") == [stored(one), "end"]
    assert command == {"graph": None, "update": {"x": 1}, "resume": None}
    assert stored(Interrupt("sure?", id="i"))["value"] == "sure?"


def test_slots_within_the_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects with slots that hold themselves, or each other many times, end in markers."""
    cycle = slots(Slots)
    cycle.name = [cycle]
    assert stored(cycle) == {"name": [marked(Slots, cut="cycle")]}
    for module in (careful, convert, payload):
        monkeypatch.setattr(module, "MAX_NODES", 1_000)
    shared = slots(Slots)
    for _ in range(30):  # 2^30 values
        shared = slots(MoreSlots, name=shared, score=shared)
    assert len(payload.encode({"x": shared})) < 100_000


def test_generator_is_not_consumed() -> None:
    """A generator is named, and still whole afterwards."""
    numbers = (number for number in range(3))
    assert stored(numbers)["$type"] == "generator"
    assert list(numbers) == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.bytes_(b"text"), marked("numpy.bytes_", utf8="text")),
        (np.datetime64("2026-01-02"), "2026-01-02T00:00:00"),
        (np.complex64(1 + 2j), marked("complex", value="(1+2j)")),
        (np.float64("nan"), NAN),
        (np.float32("inf"), marked("float", value="inf")),
        (np.longdouble(1), marked("numpy.longdouble", repr="np.longdouble('1.0')")),
        (np.array(5), 5),
        (np.array([]), []),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1.0, np.nan]), [1.0, NAN]),
        (np.arange(6).reshape(2, 3)[:, ::-1], [[2, 1, 0], [5, 4, 3]]),
        (np.array([1, 2], dtype=">i4"), [1, 2]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([{"a": 1}, None, "x"], dtype=object), [{"a": 1}, None, "x"]),
        (np.array([(1, 0.5)], dtype=[("a", "i4"), ("b", "f8")]), [[1, 0.5]]),
    ],
    ids=repr,
)
def test_numpy(value: Any, expected: Any) -> None:
    """Scalars and arrays of numpy are stored as the numbers they hold."""
    assert stored(value) == expected
    assert stored({"deep": [value]}) == {"deep": [expected]}


def test_numpy_is_left_alone() -> None:
    """Encoding an object of unknown type does not import numpy."""
    code = (
        "import sys; from asynctrack._common import careful, convert, marker, payload; "
        "print(payload.encode({'x': object(), 'y': 1j}).decode()[:13], 'numpy' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown == '{"x":{"$type" False\n'


def test_messages() -> None:
    """Messages keep content, tool calls, usage and what the provider added; nothing empty."""
    message = AIMessage(
        content="fish",
        tool_calls=[{"name": "search", "args": {"q": "cod"}, "id": "c1", "type": "tool_call"}],
        usage_metadata={"input_tokens": 3, "output_tokens": 5, "total_tokens": 8},
        response_metadata={"model_name": "m"},
        id="run-1",
    )
    assert stored([[HumanMessage("hi"), message, ToolMessage("found", tool_call_id="c1")]]) == [
        [
            {"content": "hi", "type": "human"},
            {
                "content": "fish",
                "response_metadata": {"model_name": "m"},
                "type": "ai",
                "id": "run-1",
                "tool_calls": message.tool_calls,
                "usage_metadata": message.usage_metadata,
            },
            {"content": "found", "type": "tool", "tool_call_id": "c1", "status": "success"},
        ]
    ]


def test_empty_content_is_kept() -> None:
    """A message without content says so."""
    assert stored(AIMessage(content="")) == {"content": "", "type": "ai"}


@pytest.mark.parametrize(
    "value",
    [
        AIMessage(content="x", additional_kwargs={"score": float("nan")}),
        AIMessage(
            content="x",
            tool_calls=[{"name": "f", "args": {"score": float("nan")}, "id": "1"}],
        ),
        Document(page_content="x", metadata={"score": np.float32("nan")}),
        LLMResult(
            generations=[[ChatGeneration(message=AIMessage(content="x"))]],
            llm_output={"score": float("nan")},
        ),
        Model(name="n", score=float("nan")),
        Model(name="n", inner={"deep": [float("nan")]}),
        Plain("n", float("nan")),
        Point(1, float("nan")),
        collections.deque([float("nan")]),
        {"a": [{"b": (None, float("nan"))}]},
        np.array([float("nan")]),
        Reals("nan"),
        AIMessage(content="x", score=float("nan")),
        [Text("a"), float("nan")],
        collections.OrderedDict(a=float("nan")),
        collections.UserList([float("nan")]),
        enum.Enum("Level", {"UNKNOWN": float("nan")})["UNKNOWN"],
    ],
    ids=marker.type_name,
)
def test_not_a_number_anywhere(value: Any) -> None:
    """NaN is told from null wherever it is."""
    assert json.dumps(NAN) in json.dumps(stored(value))
    assert "null" not in json.dumps(stored(value)) or "None" in repr(value)


OPENAI_ANSWER = LLMResult(
    generations=[
        [
            ChatGeneration(
                message=AIMessage(
                    content="a fish",
                    additional_kwargs={"refusal": None},
                    response_metadata={"system_fingerprint": None, "logprobs": None},
                ),
                generation_info={"finish_reason": "stop", "logprobs": None},
            )
        ]
    ],
    llm_output={"system_fingerprint": None, "share": 0.5},
)


@pytest.mark.parametrize(
    "value",
    [
        OPENAI_ANSWER,
        AIMessage(content="x", score=None),
        Model(name="n", inner={"deep": [None, 0.5]}),
        Point(1, None),
        [Text("a"), None],
        collections.OrderedDict(a=None),
        collections.deque([None]),
        collections.UserList([None]),
        {"kind": Colour.NONE, "when": date(2026, 1, 1), "share": np.float64(0.5)},
        np.array([0.5, 1.5]),
    ],
    ids=marker.type_name,
)
def test_null_alone_does_not_lead_to_the_careful_path(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What real models answer holds None in many places; telling it from NaN is quick."""
    monkeypatch.delattr(payload, "to_plain")
    assert b"null" in payload.encode({"x": value, "none": None})


def test_null_in_a_text_costs_no_precision() -> None:
    """The word null in a text, and real nulls, change nothing."""
    assert stored(["null", None, Model(name="null")]) == [
        "null",
        None,
        {"name": "null", "score": 0.5, "inner": None},
    ]


def test_prompt_values_and_documents() -> None:
    """Prompt values and documents keep their fields."""
    document = Document(page_content="text", metadata={"source": "a.txt", "page": 3}, id="d1")
    assert stored(document) == {
        "id": "d1",
        "metadata": {"source": "a.txt", "page": 3},
        "page_content": "text",
        "type": "Document",
    }
    assert stored(StringPromptValue(text="hi")) == {"text": "hi", "type": "StringPromptValue"}
    assert stored(ChatPromptValue(messages=[HumanMessage("hi")])) == {
        "messages": [{"content": "hi", "type": "human"}]
    }


def test_runnables_are_named() -> None:
    """A runnable in a payload is named by its type, not unfolded."""
    assert stored(RunnableLambda(a_function, name="step")) == marked(
        "langchain_core.runnables.base.RunnableLambda", name="step"
    )


def test_serialized_secrets_are_markers() -> None:
    """What LangChain serialises of a secret is its marker, and it is stored as it is."""
    marker = {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}
    assert stored({"kwargs": {"openai_api_key": marker}}) == {"kwargs": {"openai_api_key": marker}}
    assert dumpd(HumanMessage("hi"))["lc"] == 1  # the form this imitates


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="pydantic.v1 does not import there")
def test_pydantic_v1() -> None:
    """Models of pydantic's first version are stored by their fields, without secrets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydantic import v1

    old = v1.create_model("Old", name=(str, ...), score=(float, ...), key=(v1.SecretStr, ...))
    assert stored(old(name="n", score=float("nan"), key="hush")) == {
        "name": "n",
        "score": NAN,
        "key": "**********",
    }


def test_secrets_of_models_stay_hidden() -> None:
    """SecretStr in a model, a dataclass, a dictionary or beside a NaN is never shown."""

    class Client(pydantic.BaseModel):
        key: pydantic.SecretStr
        other: Any = None

    secret = pydantic.SecretStr("hush")
    for value in (
        Client(key=secret),
        Client(key=secret, other=float("nan")),
        Plain("n", secret),
        {"key": secret},
        {secret: 1},
        [Client(key=secret), "\ud800"],
    ):
        assert "hush" not in json.dumps(stored(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: "a", None: "b", False: "c"}, {"1": "a", "None": "b", "False": "c"}),
        ({1: "a", "1": "b"}, {"1": "a", "1~1": "b"}),
        ({(1, 2): "a"}, {"(1, 2)": "a"}),
        ({Size.SMALL: "a", Colour.RED: "b"}, {"small": "a", "Colour.RED": "b"}),
        ({Text("k"): "a"}, {"k": "a"}),
        ({b"k": "a"}, {"b'k'": "a"}),
        ({"\ud800": "a", "\\ud800": "b"}, {"\\ud800": "a", "\\ud800~1": "b"}),
        ({uuid.UUID(int=1): "a"}, {str(uuid.UUID(int=1)): "a"}),
    ],
    ids=repr,
)
def test_keys(value: Any, expected: Any) -> None:
    """Keys become text; two that would be the same are kept apart."""
    assert stored(value) == expected


def test_a_key_that_raises() -> None:
    """A key that cannot be shown keeps its value."""
    (name,) = stored({RaisingRepr(): "kept"})
    assert name == "<str() of tests.property.strategies.RaisingRepr raised ValueError>"


def test_many_keys_with_one_text() -> None:
    """Ten thousand keys that read the same do not take ten thousand times as long."""

    class Same:
        def __str__(self) -> str:
            return "same"

    begun = time.process_time()
    assert len(stored({Same(): number for number in range(10_000)})) == 10_000
    assert time.process_time() - begun < 5


def test_lone_surrogates() -> None:
    """Text that UTF-8 cannot hold is kept as escapes, in values, keys and names of types."""
    odd = type("Odd", (), {"__repr__": lambda self: "odd \udfff", "__module__": "m\udfff"})
    assert stored(["a\ud800b", {"k\udc00": 1}, odd()]) == [
        "a\\ud800b",
        {"k\\udc00": 1},
        {"$type": "m\\udfff.Odd", "repr": "odd \\udfff"},
    ]


def test_huge_integers() -> None:
    """Integers of any size are kept whole, also where Python refuses to show them in decimal."""
    assert stored(10**4000) == marked("int", value=str(10**4000))
    assert int(stored(10**5000)["value"], 16) == 10**5000
    assert int(stored({"deep": [-(10**5000)]})["deep"][0]["value"], 16) == -(10**5000)


def test_cycles() -> None:
    """A structure that holds itself ends in a marker where it would begin again."""
    items: list[Any] = [1]
    items.append(items)
    table: dict[str, Any] = {"a": 1}
    table["self"] = table
    plain = Plain("n")
    plain.inner = plain
    cut = {"cut": "cycle"}
    assert stored(items) == [1, marked("list", **cut)]
    assert stored(table) == {"a": 1, "self": marked("dict", **cut)}
    assert stored(plain)["inner"] == marked(Plain, **cut)
    message = AIMessage(content="x")
    message.additional_kwargs["self"] = message
    kept = stored(message)
    assert kept["content"] == "x"
    assert kept["additional_kwargs"]["self"]["cut"] == "cycle"


def test_shared_is_no_cycle() -> None:
    """What occurs twice is stored twice."""
    shared = {"a": 1}
    assert stored([shared, shared, "\ud800"])[:2] == [shared, shared]


@pytest.mark.parametrize("depth", [100, 254, 300, 10_000])
@pytest.mark.parametrize("box", ["list", "dict", "tuple", "model", "dataclass"])
def test_depth(box: str, depth: int) -> None:
    """Structures of any depth are kept to a depth that every reader can take."""
    wraps: dict[str, Callable[[Any], Any]] = {
        "list": lambda inner: [inner],
        "dict": lambda inner: {"k": inner},
        "tuple": lambda inner: (inner,),
        "model": lambda inner: Model.model_construct(name="n", inner=inner),
        "dataclass": lambda inner: Plain("n", inner),
    }
    value: Any = "core"
    for _ in range(depth):
        value = wraps[box](value)
    line = json.dumps(stored(value))
    assert ("core" in line) is (depth <= 100)
    assert ('"cut"' in line) is (depth > 100)
    # CPython frees nested objects of some kinds recursively: take it apart by hand.
    while not isinstance(value, str):
        value = getattr(value, "inner", None) or (
            value["k"] if isinstance(value, dict) else value[0]
        )


def nested(width: int, depth: int, wrap: Any) -> Any:
    value: Any = "lol"
    for _ in range(depth):
        value = wrap([value] * width)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda items: items,
        tuple,
        lambda items: {str(place): item for place, item in enumerate(items)},
        lambda items: Plain("n", items),
        lambda items: Model.model_construct(name="n", inner=items),
        lambda items: Document.model_construct(page_content="", metadata={"inner": items}),
        lambda items: AIMessage.model_construct(content=items),
        collections.deque,
        collections.UserList,
        lambda items: collections.UserDict(inner=items),
        lambda items: np.array([*items, None], dtype=object),
    ],
    ids=[
        "list",
        "tuple",
        "dict",
        "dataclass",
        "model",
        "document",
        "message",
        "deque",
        "user list",
        "user dict",
        "array",
    ],
)
def test_billion_laughs(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that each hold the next one ten times do not fill the memory: they are cut."""
    for module in (payload, careful, convert):
        monkeypatch.setattr(module, "MAX_NODES", 20_000)  # as it is, two million, takes seconds
    bomb = nested(10, 12, wrap)
    tracemalloc.start()
    try:
        line = payload.encode({"time_unix_nano": 1, "x": bomb, "neighbour": "kept"})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000
    assert len(line) < 5_000_000
    decoded = payload.decode(line)
    assert decoded["neighbour"] == "kept"
    assert b'"cut":' in line


def test_snapshot() -> None:
    """What is changed after the call does not change what was encoded."""
    inner: dict[str, list[str]] = {"k": ["v"]}
    message = AIMessage(content="before", additional_kwargs=inner)
    array = np.array([1, 2])
    raw = bytearray(b"before")
    record: dict[str, Any] = {"x": [inner, message, array, raw]}
    line = payload.encode(record)
    copy = bytes(line)
    inner["k"].append("w")
    message.content = "after"
    array[0] = 9
    raw[:] = b"after!"
    record["x"].clear()
    assert line == copy
    assert payload.decode(line)["x"] == [
        {"k": ["v"]},
        {"content": "before", "additional_kwargs": {"k": ["v"]}, "type": "ai"},
        [1, 2],
        marked("bytearray", utf8="before"),
    ]


def test_plain_snapshot() -> None:
    """What the careful path returns shares nothing with the value."""
    value: Any = {"a": [1, {"b": 2}]}
    plain = careful.to_plain(value)
    value["a"][1]["b"] = 3
    value["a"].append(4)
    assert plain == {"a": [1, {"b": 2}]}


def test_safe_str_cuts_and_cleans() -> None:
    """A text is cut to its limit and made valid."""
    assert marker.safe_str("abcdef", 3) == "abc"
    assert marker.safe_str("a\ud800") == "a\\ud800"
    assert marker.safe_str(RaisingStr("x")) == (
        "<str() of tests.property.strategies.RaisingStr raised RuntimeError>"
    )


def test_repr_is_cut() -> None:
    """Of an object of unknown type only so much is kept."""

    class Long:
        def __repr__(self) -> str:
            return "x" * 100_000

    assert len(stored(Long())["repr"]) == convert.MAX_REPR


def test_run_time_classes_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes made at run time do not fill the tables of types."""
    found: dict[type, Any] = {}
    monkeypatch.setattr(payload, "_ROLES", payload._ROLES.copy())
    for module in (payload, convert):
        monkeypatch.setattr(module, "CONVERTERS", found)
    for number in range(convert.MAX_TYPES + 50):
        payload.encode({"x": type(f"C{number}", (), {"__repr__": lambda self: "c"})()})
    assert len(found) == convert.MAX_TYPES
    monkeypatch.setattr(payload, "_FINITE", set())
    for number in range(convert.MAX_TYPES + 50):
        payload.encode({"x": [type(f"C{number}", (str,), {})("a"), None]})
    assert len(payload._FINITE) == len(payload._ROLES) == convert.MAX_TYPES
    assert stored(Model(name="n"))["name"] == "n"


def test_a_dataclass_with_none_is_looked_into_for_nan() -> None:
    """A field that is None stays null, one that is NaN or infinite is marked, at any depth."""

    @dataclasses.dataclass
    class Command:
        update: Any = None
        goto: Any = None

    for held in (None, [None], {"a": Command(None, 1)}):
        found = payload.decode(payload.encode({"outputs": Command(held, "end")}))["outputs"]
        assert found["goto"] == "end" and "$type" not in str(found)
    for bad in (math.nan, [math.inf], Command(math.nan), {"a": [Command({"b": -math.inf})]}):
        found = payload.encode({"outputs": Command(bad, None)})
        assert b'"$type":"float"' in found


class TextOfLangChain(str):
    """As ``TextAccessor``: a text with a class of its own."""


def levels(depth: int) -> Any:
    """Make dictionaries in each other."""
    return {"in": levels(depth - 1)} if depth else "leaf"


@pytest.mark.parametrize(
    "value",
    [
        "x" * 20,
        {"text": "x", "count": 2**63, "ratio": 0.5, "no": None, "yes": True, "empty": []},
        ["a", ("b", uuid.UUID(int=1))],
        levels(62),
        dict.fromkeys(map(str, range(32)), 1),
        [1] * 7,
        TextOfLangChain("x"),
        HumanMessage("hi"),
        {"messages": [AIMessage([{"type": "text", "text": "hi"}], response_metadata={"n": 0.5})]},
        HumanMessage("hi", seen=[True]),
        HumanMessage.__new__(HumanMessage),
        ChatPromptValue(messages=[HumanMessage("hi")]),
        LLMResult(generations=[[ChatGeneration(message=AIMessage("hi"))]]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_go_the_short_way(value: Any) -> None:
    """Values of JSON and LangChain's own, few and small, are encoded without a look for more."""
    record = {"time_unix_nano": 1, "inputs": value}
    long_way = payload.Encoding().line(record)  # and whose types are known from now on
    assert payload.plain_line(record, 20) == long_way


@pytest.mark.parametrize(
    "value",
    [
        "x" * 21,
        {"in": ["x" * 21]},
        TextOfLangChain("x" * 21),
        HumanMessage("x" * 21),
        HumanMessage("hi", more="x" * 21),
        HumanMessage("hi", response_metadata={"score": math.nan}),
        HumanMessage([{"type": "image", "data": b"x"}]),
        b"x",
        math.nan,
        [-math.inf],
        object(),
        functools.reduce(lambda inner, _: [inner] * 5, range(4), "much of it"),
        levels(64),
        dict.fromkeys(map(str, range(33)), 1),
        [1] * 8,
        2**64,
        "\ud800",
        {1: "a key that is no text"},
    ],
    ids=lambda value: type(value).__name__,
)
def test_all_else_goes_the_long_way(value: Any) -> None:
    """What is long, deep, much, not finite or of another kind is left to the long way."""
    record = {"time_unix_nano": 1, "inputs": value}
    payload.Encoding().line(record)  # knows the types from now on
    assert payload.plain_line(record, 20) is None
