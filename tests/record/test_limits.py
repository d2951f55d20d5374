"""AWS's limits, checked against the model that botocore itself validates requests with."""

from __future__ import annotations

import enum
import functools
import json
import math
import re
from typing import Any

import botocore.session
import numpy as np
import pytest
from botocore.model import Shape, StringShape
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from asynctrack._common import payload
from asynctrack._common.artifact import MetricPoint
from asynctrack._record import limits
from asynctrack._record.limits import (
    clamp_time,
    free_slot,
    metric_name,
    parameter_key,
    parameter_value,
    pointer,
)
from tests.property.strategies import any_text, json_like, quick, thorough

BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@functools.cache
def service(name: str) -> Any:
    return botocore.session.get_session().get_service_model(name)


def shape(operation: str, *path: str, api: str = "sagemaker") -> Shape:
    """Return the model of a request's part."""
    found: Any = service(api).operation_model(operation).input_shape
    for step in path:
        found = (
            {"key": lambda s: s.key, "value": lambda s: s.value, "member": lambda s: s.member}[
                step
            ](found)
            if step in ("key", "value", "member")
            else found.members[step]
        )
    return found


def check_text(value: str, limits: Shape) -> None:
    """Validate a text against length and pattern; botocore itself checks no upper bound."""
    assert isinstance(limits, StringShape)
    bounds = limits.metadata
    # AWS counts characters of valid Unicode; what is sent is UTF-8.
    value.encode()
    assert bounds.get("min", 0) <= len(value) <= bounds.get("max", math.inf)
    if "pattern" in bounds:
        # Java's ".", which AWS's patterns are written for, takes none of these.
        assert re.fullmatch(bounds["pattern"], value)
        assert not set(value) & set("\n\r\u0085\u2028\u2029")


def check_parameters(parameters: dict[str, Any]) -> None:
    """Validate parameters as UpdateTrialComponent takes them."""
    request = {
        "TrialComponentName": "tc",
        "Parameters": {
            key: {"StringValue": value} if isinstance(value, str) else {"NumberValue": value}
            for key, value in parameters.items()
        },
    }
    operation = service("sagemaker").operation_model("UpdateTrialComponent")
    report = ParamValidator().validate(request, operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    keys = shape("UpdateTrialComponent", "Parameters", "key")
    removable = shape("UpdateTrialComponent", "ParametersToRemove", "member")
    text = shape("UpdateTrialComponent", "Parameters", "value", "StringValue")
    for key, value in parameters.items():
        check_text(key, keys)
        check_text(key, removable)
        if isinstance(value, str):
            check_text(value, text)
        else:
            assert type(value) is float
            assert math.isfinite(value)


def test_the_figures_are_botocores() -> None:
    """Our constants are those of the service model, so that a change there is noticed."""
    keys = shape("UpdateTrialComponent", "Parameters", "key").metadata
    removable = shape("UpdateTrialComponent", "ParametersToRemove", "member").metadata
    text = shape("UpdateTrialComponent", "Parameters", "value", "StringValue").metadata
    parameters = shape("UpdateTrialComponent", "Parameters").metadata
    artifact = shape("UpdateTrialComponent", "OutputArtifacts", "value", "Value").metadata
    metric = shape(
        "BatchPutMetrics", "MetricData", "member", "MetricName", api="sagemaker-metrics"
    ).metadata
    assert min(keys["max"], removable["max"]) == limits.MAX_KEY
    assert text["max"] == limits.MAX_STRING
    assert parameters.get("max", 300) == limits.MAX_PARAMETERS
    assert artifact["max"] == limits.MAX_ARTIFACT_VALUE
    assert metric["max"] == limits.MAX_METRIC_NAME


# -- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "gen_ai.request.model", "ü", "a b", "x" * 255, "x" * 256])
def test_keys_that_fit_stay(name: str) -> None:
    """A name within the limit is the key, letter by letter."""
    assert parameter_key(name) == name


@pytest.mark.parametrize("length", [257, 320, 321, 10_000])
def test_longer_keys_are_cut_and_stay_apart(length: int) -> None:
    """A longer name is cut to the limit, and two that begin alike do not meet."""
    first, second = parameter_key("x" * length + "a"), parameter_key("x" * length + "b")
    assert len(first) == len(second) == limits.MAX_KEY
    assert first != second
    assert first == parameter_key("x" * length + "a")
    check_parameters({first: 1.0, second: 2.0})


def test_no_key_is_empty() -> None:
    """An empty name becomes one that can be read and removed."""
    assert parameter_key("") == "_"


@pytest.mark.parametrize("sign", list(BREAKS))
def test_line_breaks_become_escapes(sign: str) -> None:
    """What ends a line is shown as its escape, in keys, values and names."""
    for shown in (
        parameter_key(f"a{sign}b"),
        parameter_value(f"a{sign}b"),
        metric_name(f"a{sign}b"),
    ):
        assert isinstance(shown, str)
        assert len(shown.splitlines()) == 1
        assert shown.startswith("a\\")
        assert json.loads(f'"{shown}"'.replace("\\x", "\\u00")) == f"a{sign}b"


def test_lone_surrogates_become_escapes() -> None:
    """What UTF-8 cannot hold does not reach AWS."""
    assert parameter_key("a\ud800") == "a\\ud800"
    assert parameter_value("a\ud800") == "a\\ud800"
    assert metric_name("a\ud800") == "a\\ud800"
    assert pointer("s3://b/k", "a\ud800") == "s3://b/k#/parameters/a\\ud800"


# -- values -------------------------------------------------------------------------------------


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (1, 1.0),
        (0.1, 0.1),
        (-0.0, -0.0),
        (1e308, 1e308),
        (5e-324, 5e-324),
        (2**53, float(2**53)),
        (-(2**53), float(-(2**53))),
        (2**53 + 1, str(2**53 + 1)),
        (-(2**53) - 1, str(-(2**53) - 1)),
        (10**2499, str(10**2499)),
        (10**2500, None),
        (10**5000, None),
        (True, "true"),
        (False, "false"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        ({"$type": "float", "value": "nan"}, "nan"),
        ({"$type": "float", "value": "x" * 2501}, None),
        (Level.HIGH, 3.0),
        (np.float64(0.5), 0.5),
        (np.float64("nan"), "nan"),
        ("", ""),
        ("text", "text"),
        ("x" * 2500, "x" * 2500),
        ("x" * 2501, None),
        ("\n" * 1250, "\\n" * 1250),
        ("\n" * 1251, None),
        (None, "null"),
        ([1, "a", None], '[1,"a",null]'),
        ({"a": [True]}, '{"a":[true]}'),
        ([float("nan")], '[{"$type":"float","value":"nan"}]'),
        ({"a": "x" * 2492}, '{"a":"' + "x" * 2492 + '"}'),
        ({"a": "x" * 2493}, None),
    ],
    ids=lambda value: repr(value)[:40] if not isinstance(value, int) or value < 2**64 else "huge",
)
def test_values(value: Any, expected: Any) -> None:
    """Finite numbers stay numbers; what a double cannot hold is text; what is too long is None."""
    found = parameter_value(value)
    assert found == expected
    assert type(found) is type(expected)
    if found is not None:
        check_parameters({"k": found})


@thorough
@given(any_text, st.one_of(any_text, json_like, st.floats(), st.integers(), st.booleans()))
def test_nothing_is_refused(name: str, value: Any) -> None:
    """Whatever is logged, key and value are such as AWS takes, by botocore's own model."""
    fitting = parameter_value(value)
    if fitting is None:
        fitting = pointer("s3://bucket/prefix/_manifest/w.json", name)
    check_parameters({parameter_key(name): fitting})


@quick
@given(st.text(st.characters(), min_size=200, max_size=700))
def test_long_names_are_not_refused(name: str) -> None:
    """Names around the limit are cut to it, escapes included."""
    check_parameters({parameter_key(name): 1.0})


@thorough
@given(st.lists(any_text, unique=True, max_size=20))
def test_distinct_names_stay_distinct(names: list[str]) -> None:
    """Two names become one key only where one is the escape of the other."""
    keys: dict[str, str] = {}
    for name in names:
        if name in ("", "_") or "\\" in name:
            continue
        key = parameter_key(name)
        assert keys.setdefault(key, name) == name


@quick
@given(any_text)
def test_metric_names(name: str) -> None:
    """Every name of a metric is one that BatchPutMetrics takes."""
    member = shape("BatchPutMetrics", "MetricData", "member", "MetricName", api="sagemaker-metrics")
    check_text(metric_name(name), member)


@pytest.mark.parametrize("length", [1, 254, 255, 256, 5_000])
def test_metric_names_at_the_limit(length: int) -> None:
    """A metric's name is cut at the limit, not before."""
    assert len(metric_name("x" * length)) == min(length, 255)


# -- pointers, slots, times ---------------------------------------------------------------------


def test_pointers_follow_the_standard() -> None:
    """The part behind # finds the value in the manifest, also for names with slashes and tildes."""
    assert pointer("s3://b/k", "a/b~c") == "s3://b/k#/parameters/a~1b~0c"
    check_parameters({"k": pointer("s3://b/" + "k" * 1_024, "x" * 5_000)})


GROUP: dict[str, float | str] = {"model": "m", "temperature": 0.5}


def test_the_first_free_suffix_is_taken() -> None:
    """A group goes under no suffix, then .2, then .3; the same values need no new place."""
    none: frozenset[str] = frozenset()
    second = {"model.2": "m", "temperature.2": 0.5}
    assert free_slot(GROUP, {}, none, 20) == GROUP
    assert free_slot(GROUP, GROUP, none, 20) == GROUP
    assert free_slot(GROUP, {"model": "m"}, none, 20) == GROUP
    assert free_slot(GROUP, {"model": "other"}, none, 20) == second
    assert free_slot(GROUP, {"temperature": 0.9}, none, 20) == second
    assert free_slot(GROUP, {"model": "x", "model.2": "y"}, none, 20) == {
        "model.3": "m",
        "temperature.3": 0.5,
    }


def test_announced_keys_are_not_taken() -> None:
    """A key that the user's Run will write is left to it, unless it holds this very value."""
    announced = frozenset({"model"})
    assert free_slot(GROUP, {}, announced, 20) == {"model.2": "m", "temperature.2": 0.5}
    assert free_slot(GROUP, {"model": "m"}, announced, 20) == GROUP


def test_no_slot_left() -> None:
    """When all suffixes are taken, nothing is overwritten."""
    taken = {"model": "x", "model.2": "x", "model.3": "x"}
    assert free_slot(GROUP, taken, frozenset(), 3) is None


@quick
@given(
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), min_size=1),
    st.dictionaries(
        st.sampled_from(["a", "b", "a.2", "b.2", "a.3", "b.3"]), st.sampled_from("xyz")
    ),
    st.frozensets(st.sampled_from(["a", "b", "a.2", "b.2"])),
)
def test_no_value_is_overwritten(
    group: dict[str, Any], taken: dict[str, Any], reserved: frozenset[str]
) -> None:
    """Whatever is there stays, and the group is whole under one suffix."""
    named = free_slot(group, taken, reserved, 5)
    assert named is not None
    assert {**taken, **named} == {**named, **taken}
    assert not (named.keys() - taken.keys()) & reserved
    assert list(named.values()) == list(group.values())
    assert len({key[1:] for key in named}) == 1


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("offset", "moved"),
    [
        (0, False),
        (-13 * 86_400, False),
        (3_600, False),
        (-15 * 86_400, True),
        (3 * 3_600, True),
        (-365 * 86_400, True),
        (365 * 86_400, True),
    ],
)
def test_times_are_clamped(offset: int, moved: bool) -> None:
    """A time that AWS would refuse is moved to one that it takes; others are left alone."""
    point = MetricPoint("m", 1.0, (int(NOW) + offset) * 10**9 + 1, 3)
    clamped = clamp_time(point, NOW)
    assert (clamped != point) is moved
    assert (clamped.name, clamped.value, clamped.step) == ("m", 1.0, 3)
    assert -14 * 86_400 < clamped.time_unix_nano / 1e9 - NOW < 2 * 3_600


def test_json_of_a_value_reads_back() -> None:
    """A structure that fits is stored as JSON that any reader takes."""
    value = {"a": [1, {"b": "ü"}]}
    text = parameter_value(value)
    assert isinstance(text, str)
    assert payload.decode(text.encode()) == value
