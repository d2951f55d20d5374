"""What many events share is encoded once, and each event is what it would be without that."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumpd
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from asynctrack._capture import recurring
from asynctrack._capture.capture import Capture
from asynctrack._capture.observations import Observations
from asynctrack._capture.redact import REDACTED, Redactor
from asynctrack._common import payload
from tests.capture.whole import whole
from tests.property.strategies import json_like, quick

KEY = "sk-Zq7Xw9Kv3Jp5Hd2Rt8abc"
CHAT = dumpd(ChatOpenAI(model="gpt-4o-mini", api_key=KEY))  # type: ignore[arg-type]  # a string will do
PROMPT = dumpd(ChatPromptTemplate.from_messages([("human", "{topic}")]))


def make(custom: Callable[[str], str] | None = None) -> Capture:
    """Make a capture whose clocks stand still."""
    return tracking(Observations(), Redactor(custom))


def tracking(
    observations: Observations, redactor: Redactor, remembered: recurring.Recurring | None = None
) -> Capture:
    """Make a capture whose clocks stand still, with what others remember."""
    return Capture(
        tokens="stream",
        redactor=redactor,
        observations=observations,
        time_ns=lambda: 1,
        perf_ns=lambda: 1,
        recurring=remembered,
    )


def chat_start(capture: Capture, serialized: Any, **more: Any) -> dict[str, Any]:
    """Capture the start of a chat model; return what is stored."""
    body = capture.on_chat_model_start(serialized, [["hi"]], run_id=uuid4(), **more)
    return whole(body)


def chain_start(capture: Capture, serialized: Any, **more: Any) -> dict[str, Any]:
    """Capture the start of a chain; return what is stored."""
    return whole(capture.on_chain_start(serialized, {}, run_id=uuid4(), **more))


@pytest.mark.parametrize("serialized", [CHAT, PROMPT], ids=["model", "prompt"])
@pytest.mark.parametrize("more", [{}, {"batch_size": 1}], ids=["alone", "beside others"])
def test_each_event_holds_the_whole_form(serialized: dict[str, Any], more: dict[str, Any]) -> None:
    """The first event and the later ones store the form as it is, beside what else was given."""
    capture = make()
    for _ in range(3):
        stored = chain_start(capture, serialized, **more)
        assert stored["data"] == {**more, "serialized": serialized}
        stored = chat_start(capture, serialized, **more)
        assert stored["data"] == {**more, "serialized": serialized}
        assert stored["attributes"]["gen_ai.operation.name"] == "chat"


@quick
@given(st.dictionaries(st.text(max_size=5), json_like, min_size=1), json_like)
def test_whatever_the_form_is(serialized: dict[str, Any], changed: Any) -> None:
    """Any form is stored as it is, and so is what becomes of it between two calls."""
    capture = make(str)  # the user's function only: the default rules would cut at random
    assert chain_start(capture, serialized)["data"]["serialized"] == _stored(serialized)
    serialized["more"] = changed
    assert chain_start(capture, serialized)["data"]["serialized"] == _stored(serialized)


def _stored(value: Any) -> Any:
    # Both ways cut secrets that Hypothesis finds by chance.
    return json.loads(Redactor().body(payload.encode({"serialized": value})))["serialized"]


def test_a_form_that_is_changed_is_stored_changed() -> None:
    """What is stored is the value at the moment of the call, also where it is the same object."""
    capture, serialized = make(), copy.deepcopy(PROMPT)
    chain_start(capture, serialized)
    serialized["kwargs"]["template"] = "another"
    assert chain_start(capture, serialized)["data"]["serialized"] == serialized


def test_secrets_are_cut_out_of_a_form() -> None:
    """Each time, not only the first one."""
    capture = make()
    for _ in range(2):
        stored = chain_start(capture, {"name": "x", "kwargs": {"api_key": KEY, "n": 1}})
        assert stored["data"]["serialized"]["kwargs"] == {"api_key": REDACTED, "n": 1}
        stored = chat_start(capture, {"kwargs": {"model": KEY}})
        assert KEY not in json.dumps(stored)


@pytest.mark.parametrize(
    ("form", "kept"),
    [
        (
            {"n": float("nan"), "none": None},
            {"n": {"$type": "float", "value": "nan"}, "none": None},
        ),
        ({"o": complex(1, 2)}, {"o": {"$type": "complex", "value": "(1+2j)"}}),
        ({"long": "x" * 20_000}, {"long": "x" * 20_000}),
        ({1: 2}, {"1": 2}),
    ],
    ids=["nan", "object", "long", "keys"],
)
def test_a_form_that_is_not_remembered_is_stored_all_the_same(form: Any, kept: Any) -> None:
    """What is no plain JSON, or long, goes with the rest of its event."""
    capture = make()
    for _ in range(2):
        assert chain_start(capture, form, batch_size=1)["data"] == {
            "batch_size": 1, "serialized": kept,
        }  # fmt: skip
    assert not capture.events.recurring._forms


def test_a_form_with_too_many_values_ends_in_a_marker() -> None:
    """A form whose parts hold each other again and again is not walked through."""
    form: dict[str, Any] = {"leaf": "x"}
    for _ in range(40):
        form = {"left": form, "right": form}
    assert "$type" in json.dumps(chain_start(make(), form))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forms and requests made at run time do not pile up."""
    monkeypatch.setattr(recurring, "MAX_REMEMBERED", 10)
    capture = make()
    for number in range(30):
        stored = chat_start(capture, {"name": f"n{number}"})
        assert stored["data"]["serialized"] == {"name": f"n{number}"}
    remembered = capture.events.recurring
    assert len(remembered._forms) == len(remembered._small) == 10


def test_the_users_function_sees_forms_and_attributes() -> None:
    """The function that the user gave works on every text of them."""
    capture = make(lambda text: text.replace("gpt", "***"))
    stored = chat_start(capture, CHAT, invocation_params={"model": "gpt-4o-mini"})
    assert "gpt" not in json.dumps(stored)
    assert stored["attributes"]["gen_ai.request.model"] == "***-4o-mini"


@pytest.mark.parametrize("field", ["constructor", "gpt-4o-mini"])
def test_a_function_that_raises_lets_nothing_through(field: str) -> None:
    """Where the user's function raises at a form or an attribute, neither is stored."""

    def custom(text: str) -> str:
        if field in text:
            raise RuntimeError(KEY)
        return text

    capture = make(custom)
    stored = json.dumps(chat_start(capture, {**CHAT, "secret_word": KEY}))
    assert field not in stored
    assert KEY not in stored
    assert '"$cut": "redaction"' in stored


def test_trackers_share_what_they_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackers that cut by the default rules remember together, as long as there is one of them."""
    monkeypatch.setattr(recurring, "_shared", recurring._nothing)
    redactor = Redactor()
    first = recurring.recurring_for(redactor, None)
    assert recurring.recurring_for(Redactor(), None) is first
    assert recurring.recurring_for(Redactor(str), None) is not first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


def test_each_tracker_notes_a_request_that_another_one_has_made() -> None:
    """The Run of each tracker gets the model's configuration, also where that is remembered."""
    redactor = Redactor()
    remembered = recurring.Recurring(redactor)
    for _ in range(2):
        observations = Observations()
        capture = tracking(observations, redactor, remembered)
        for _ in range(3):
            chat_start(capture, CHAT, invocation_params={"model": "gpt-4o-mini"})
        assert len(observations.take_news().models) == 1
    assert len(remembered._requests) == 1
