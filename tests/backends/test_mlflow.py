"""Runs of MLflow, without MLflow: how requests are cut, which run is meant, what answers mean."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynctrack import (
    OptionError,
    PausingError,
    PermanentError,
    TransientError,
    open_run,
    tracker,
)
from asynctrack._backends.mlflow import alone as mlflow_alone
from asynctrack._backends.mlflow.address import (
    MlflowTarget,
    Place,
    layout_names,
    place_of_artifacts,
    target_of,
    without_secrets,
)
from asynctrack._backends.mlflow.api import RunFound, run_filter
from asynctrack._backends.mlflow.batches import LogBatch, cut
from asynctrack._backends.mlflow.errors import map_answer, map_error
from asynctrack._backends.mlflow.server import MlflowServer
from asynctrack._common.artifact import MetricPoint
from asynctrack._format import is_valid_name

KEYS = st.text(min_size=1, max_size=250)
POINTS = st.builds(
    MetricPoint,
    name=KEYS,
    value=st.floats(),
    time_unix_nano=st.integers(0, 2**62),
    step=st.integers(0, 2**31 - 1),
)


def many(some: list[Any], count: int) -> list[Any]:
    """So many of some: hypothesis makes a few, and takes long for thousands."""
    return [some[number % len(some)] for number in range(count)] if some else []


@given(
    st.lists(st.text(max_size=20), max_size=5),
    st.integers(0, 450),
    st.lists(POINTS, max_size=5),
    st.integers(0, 4_000),
    st.sampled_from(["x", "ü", "\U0001f600", "\x00"]),
)
def test_requests_are_what_mlflow_takes(
    names: list[str], count: int, points: list[MetricPoint], metrics: int, character: str
) -> None:
    """However much there is, every request is within all limits, and together they say it all."""
    params = {f"{name}{at}": character * 6_000 for at, name in enumerate(many(names, count))}
    tags = {f"asynctrack.events.{at}": "s3://b/x" for at in range(count)}
    found = list(cut(params, tags, many(points, metrics)))
    for batch in found:
        assert 0 < len(batch.params) + len(batch.tags) + len(batch.metrics) <= 1_000
        assert len(batch.params) <= 100
        assert len(batch.tags) <= 100
        assert len(json.dumps(body_of(batch), allow_nan=False)) <= 1_000_000
    together = [one for batch in found for one in batch.params]
    assert together == [{"key": key, "value": value} for key, value in params.items()]
    assert len([one for batch in found for one in batch.tags]) == len(tags)
    sent = [one for batch in found for one in batch.metrics]
    assert [one["key"] for one in sent] == [one.name for one in many(points, metrics)]
    # And no request more than it takes: two neighbours do not fit into one.
    for first, second in pairwise(found):
        both = LogBatch(
            first.params + second.params, first.tags + second.tags, first.metrics + second.metrics
        )
        too_many = len(both.params) > 100 or len(both.tags) > 100 or both.entries > 1_000
        assert too_many or len(json.dumps(body_of(both))) > 990_000


def body_of(batch: LogBatch) -> dict[str, Any]:
    """What the request holds."""
    kinds = ("params", "tags", "metrics")
    return {"run_id": "0" * 32, "run_uuid": "0" * 32} | {one: getattr(batch, one) for one in kinds}


@given(st.integers(2, 50), st.integers(0, 50))
def test_halves_are_the_whole(params: int, metrics: int) -> None:
    """What is refused is tried in halves, which have all of it and nothing twice."""
    (batch,) = cut(
        {str(one): "v" for one in range(params)},
        {},
        [MetricPoint("m", 1.0, one * 10**6, one) for one in range(metrics)],
    )
    first, second = batch.halves()
    assert first.params + second.params == batch.params
    assert first.metrics + second.metrics == batch.metrics
    assert abs(first.entries - second.entries) <= 1


@pytest.mark.parametrize(
    ("address", "experiment", "run"),
    [
        ("mlflow://jokes/first", "jokes", "first"),
        ("mlflow:///Users/me/jokes/first", "/Users/me/jokes", "first"),
        ("mlflow://my%20jokes/a%2Fb", "my jokes", "a/b"),
        ("mlflow://7/it's", "7", "it's"),
    ],
)
def test_an_address_names_experiment_and_run(address: str, experiment: str, run: str) -> None:
    """What is before the last slash is the experiment; percent signs are those of any address."""
    found = target_of(address)
    assert (found.experiment, found.run, found.run_id) == (experiment, run, None)
    assert all(is_valid_name(name) for name in layout_names(found))


def test_a_run_id_is_one() -> None:
    """What looks like MLflow's ids is the id of a run that is there."""
    assert target_of(f"mlflow://jokes/{'0a' * 16}").run_id == "0a" * 16


@pytest.mark.parametrize("address", ["mlflow://", "mlflow://x", "mlflow://x/", "mlflow://x/a'\"b"])
def test_an_address_without_a_run_is_refused(address: str) -> None:
    """What names no run is refused at the call, with what an address is."""
    with pytest.raises(OptionError, match="mlflow://experiment/run"):
        tracker(address)


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_in_keys(experiment: str, run: str) -> None:
    """Any name of MLflow's has one that keys can have, and it is the same one each time."""
    target = MlflowTarget(None, experiment, run)
    assert all(is_valid_name(name) for name in layout_names(target))
    assert layout_names(target) == layout_names(target)


class Runs:
    """MLflow's runs, as the server of this process asks for them."""

    def __init__(self) -> None:
        self.runs: dict[str, RunFound] = {}
        self.ended: list[str] = []

    def experiment_id(self, name: str) -> str | None:
        return "7"

    def latest_run(self, experiment_id: str, name: str) -> RunFound | None:
        return next((run for run in self.runs.values() if run.name == name), None)

    def create_run(self, experiment_id: str, name: str) -> RunFound:
        made = self.runs[name] = RunFound(f"id-{name}", experiment_id, name, "/a", False)
        return made

    def finish(self, run_id: str) -> None:
        self.ended.append(run_id)


def test_the_last_writer_ends_a_run_that_was_made() -> None:
    """A run that was made here ends once, with the last that wrote to it; one that was there goes
    on, and so does another."""
    api: Any = Runs()
    there = MlflowServer(None)
    for _ in range(2):
        there.join(api, MlflowTarget(None, "e", "new"))
    there.join(api, MlflowTarget(None, "e", "other"))
    there.leave(api, "id-new")
    assert api.ended == []
    there.leave(api, "id-new")
    assert api.ended == ["id-new"]
    # It is there now: who comes later has not made it.
    there.join(api, MlflowTarget(None, "e", "new"))
    there.leave(api, "id-new")
    assert api.ended == ["id-new"]
    there.leave(api, "id-other")
    assert api.ended == ["id-new", "id-other"]


def test_quotes_in_a_runs_name() -> None:
    """A name with one kind of quotes is asked for in the other."""
    assert run_filter("it's") == 'attributes.run_name = "it\'s"'
    assert run_filter('a"b') == "attributes.run_name = 'a\"b'"


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://bucket/a/b/artifacts", Place("bucket", "a/b/artifacts")),
        ("s3://bucket", Place("bucket", "")),
        ("file:///srv/my%20runs/artifacts", Place("", "/srv/my runs/artifacts")),
        ("/srv/artifacts", Place("", "/srv/artifacts")),
        ("mlflow-artifacts:/1/2/artifacts", None),
        ("gs://bucket/a", None),
        ("", None),
    ],
)
def test_events_go_beside_artifacts(uri: str, place: Place | None) -> None:
    """S3 and folders are places for events; what only MLflow's server reaches is none."""
    assert place_of_artifacts(uri) == place


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (500, "", TransientError, "500"),
        (503, '{"error_code": "RESOURCE_EXHAUSTED"}', TransientError, "RESOURCE_EXHAUSTED"),
        (429, '{"error_code": "REQUEST_LIMIT_EXCEEDED"}', TransientError, "REQUEST_LIMIT_EXCEEDED"),
        (401, "You are not authenticated", PausingError, "401"),
        (403, '{"error_code": "PERMISSION_DENIED"}', PausingError, "PERMISSION_DENIED"),
        (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}', PausingError, "RESOURCE_DOES_NOT_EXIST"),
        (404, "<html>no such page</html>", TransientError, "NotMLflow"),
        (400, "<html>a filter</html>", TransientError, "NotMLflow"),
        (404, '{"error_code": "ENDPOINT_NOT_FOUND"}', TransientError, "NotMLflow"),
        (400, '{"error_code": "MALFORMED_REQUEST"}', PermanentError, "MALFORMED_REQUEST"),
        (302, "", TransientError, "NotMLflow"),
    ],
)  # fmt: skip
def test_what_answers_mean(status: int, body: str, kind: type[Exception], code: str) -> None:
    """Only MLflow's own word ends anything; what others answer in its place is tried again."""
    error = map_answer(status, {"Retry-After": "7"}, body, 0.0)
    assert type(error) is kind
    assert error.code == code
    assert error.answered
    assert (error.retry_after == 7.0) is (status in (429, 500, 503))


def test_what_others_logged_is_not_told() -> None:
    """The refusal of a changed parameter quotes its values: they are in no message of ours."""
    body = json.dumps(
        {
            "error_code": "INVALID_PARAMETER_VALUE",
            "message": "Changing param values is not allowed. old_value: 'a secret of others'",
        }
    )
    assert "secret" not in str(map_answer(400, {}, body, 0.0))


@pytest.mark.parametrize(
    "text",
    [
        "API request to http://me:hunter2@host/api failed with exception x",
        "no server at https://host/api?token=hunter2",
        "no server at https://me:p@hunter2@host:5000/api",
        "no database at postgresql://me:p/hunter2@host/mlflow",
    ],
)
def test_no_password_in_an_error(text: str) -> None:
    """User, password and query of an address are in no error."""
    assert "hunter2" not in str(map_error(RuntimeError(text)))
    (address,) = re.findall(r"\w+://\S+", text)
    assert "hunter2" not in without_secrets(address) and "host" in without_secrets(address)


HOLDS = """
import os, sys
from asynctrack._backends.mlflow.alone import alone
with alone("http://one"):
    if not os.fork():
        sys.stdin.readline()
        os._exit(0)
    print("holds it", flush=True)
    sys.stdin.readline()
"""


def test_processes_make_runs_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server is asked alone for holds up nobody else's, nor anybody for ever; it ends with
    its process, also where that has forked."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": tempfile.gettempdir()},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"holds it\n"
        descriptor = mlflow_alone._opened("http://one")
        assert descriptor is not None and not mlflow_alone._lock(descriptor)
        with monkeypatch.context() as patched:
            patched.setattr(mlflow_alone, "PATIENCE", 0.0)
            with mlflow_alone.alone("http://one"):  # has waited long enough
                pass
        with mlflow_alone.alone("http://two"):
            pass
        other.kill()
        other.wait()
        assert mlflow_alone._lock(descriptor), "the child has no lock"
        os.close(descriptor)


def test_options_that_go_together(tmp_path: Any) -> None:
    """Events go to one place, and a folder for them is for runs of MLflow only."""
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    with pytest.raises(OptionError, match="bucket"):
        tracker("mlflow://a/b", bucket="abc", folder=tmp_path)
    with pytest.raises(OptionError, match="run_name"):
        tracker("mlflow://a/b", run_name="x")


def test_a_folder_for_events_of_others(tmp_path: Any) -> None:
    """A tracker into a folder has one already."""
    with pytest.raises(OptionError, match="folder"):
        tracker(tmp_path, folder=tmp_path)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("file:", "MLFLOW_ALLOW_FILE_STORE=true"),
        ("nobody://knows", "pip install sagemaker-mlflow"),
    ],
)
@pytest.mark.may_block("no event loop in here")
def test_a_place_that_mlflow_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, said: str
) -> None:
    """Reading a run says what to do about it."""
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    if uri == "file:" and not hasattr(mlflow.environment_variables, "MLFLOW_ALLOW_FILE_STORE"):
        pytest.skip("this one of MLflow takes a folder, with a warning")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri + str(tmp_path) if uri == "file:" else uri)
    with pytest.raises(PausingError, match=re.escape(said)):
        open_run("mlflow://jokes/first")
