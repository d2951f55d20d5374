"""Runs as SageMaker names them: by a Run object, by names, by an experiment's name."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from langchain_core.language_models import FakeListChatModel

from asynctrack import tracker
from asynctrack._backends.s3_read import Access, ask_for_experiment, ask_for_run
from asynctrack._errors import BackendError, NotFoundError
from asynctrack._reading.experiment import open_experiment
from asynctrack._reading.run import open_run
from asynctrack._reading.sources.spool import spool_writers, this_spool
from asynctrack._reading.verify import verify
from asynctrack.demo._aws import EmbeddedAWS
from asynctrack.demo._sagemaker import sagemaker_sdk
from tests.e2e.runs import RunFactory, Site
from tests.e2e.waiting import until_in_thread
from tests.support.faults import PAGES, Answer, Page
from tests.support.proxy import fault_proxy
from tests.support.s3 import S3Server


@pytest.fixture(scope="session")
def sdk() -> None:
    """The SDK, imported: it warns about itself while it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sagemaker_sdk()


@pytest.fixture
def make_run(sdk: None, s3: S3Server, aws: EmbeddedAWS) -> Iterator[RunFactory]:
    """Makes entered Runs."""
    factory = RunFactory(s3, aws)
    yield factory
    factory.close()


def track(site: Site, **options: Any) -> int:
    """Track one model call into a Run; return how many events that were."""
    model = FakeListChatModel(responses=["a fish walks in"])
    with tracker(site.run, **options) as handler:
        model.invoke("tell me a joke", {"callbacks": [handler]})
        handler.log_parameters({"temperature": 0.1, "long": "x" * 3_000})
        handler.log_metric("score", 0.9)
    return handler.statistics().accepted


def options(site: Site) -> dict[str, Any]:
    """The session of a Run, whose clients go to the test's servers."""
    return {"session": site.run._artifact_uploader.sagemaker_session.boto_session}


def test_a_run_object_is_read_back(make_run: RunFactory) -> None:
    """A Run leads to its events, with the parameters that the user logged into it directly, and
    with whole values where the Run itself holds but a pointer."""
    site = make_run("run-1")
    site.run.log_parameter("mine", 7)
    accepted = track(site)
    site.leave()
    run = open_run(site.run)
    assert run.uris == (f"s3://{site.s3.bucket}/{site.prefix}",)
    assert sum(1 for _ in run.events()) == accepted
    assert run.parameters["mine"] == 7
    assert run.parameters["long"] == "x" * 3_000
    assert run.metrics["score"].last == 0.9
    (trace,) = run.traces()
    assert trace.root is not None
    assert trace.root.kind == "chat_model"
    assert verify(site.run).ok


def test_names_are_looked_up_in_sagemaker(make_run: RunFactory) -> None:
    """SageMaker is asked where the events of a Run are, and those of all Runs of an experiment;
    a Run of it that was not tracked is left out."""
    site = make_run("run-1")
    track(site)
    site.leave()
    for name in ("run-2", "untracked"):
        other = make_run(name, experiment=site.experiment)
        if name == "run-2":
            track(other)
        other.leave()
    run = open_run((site.experiment, "run-1"), **options(site))
    assert run.uris == (f"s3://{site.s3.bucket}/{site.prefix}",)
    experiment = open_experiment(site.experiment, **options(site))
    assert sorted(run.name for run in experiment) == ["run-1", "run-2"]
    assert [summary.model_calls for summary in experiment.summaries] == [1, 1]
    with pytest.raises((NotFoundError, BackendError), match="run-9"):
        open_run((site.experiment, "run-9"), **options(site))
    with pytest.raises((NotFoundError, BackendError)):
        open_experiment("no-such-experiment", **options(site))


def test_names_are_found_as_the_user_wrote_them(make_run: RunFactory) -> None:
    """The SDK stores names in small letters: whoever made Run("MyExp…", "Run-A") finds it by these
    names, also before its first event is delivered; an error says what was looked for."""
    written = f"MyExp-{secrets.token_hex(4)}"
    site = make_run("Run-A", experiment=written)
    with tracker(site.run, max_delay=600) as handler:
        handler.log_parameters({"temperature": 0.1})
        until_in_thread(lambda: any(one.uri for one in spool_writers(this_spool())))
        waiting = open_run((written, "Run-A"), **options(site))
        assert [one.spooled for one in waiting.events()] == [True]
    site.leave()
    run = open_run((written, "Run-A"), **options(site))
    assert run.uris == open_run(site.run).uris
    assert verify((written, "RUN-a"), **options(site)).ok
    experiment = open_experiment(written, **options(site))
    assert [one.name for one in experiment] == ["run-a"]
    assert experiment["Run-A"].uris == run.uris
    below = {"root": f"s3://{site.s3.bucket}", **options(site)}
    assert open_run((written, "Run-A"), **below).uris == run.uris
    assert len(open_experiment(written, **below)) == 1
    with pytest.raises(NotFoundError, match=f"'{written.lower()}-run-b'"):
        open_run((written, "Run-B"), **options(site))
    with pytest.raises(NotFoundError, match="Other/Run-A or other/run-a"):
        open_run(("Other", "Run-A"), **below)


def test_a_run_that_was_tracked_into_two_places(make_run: RunFactory) -> None:
    """Two trackers with other prefixes on the same Run: both are read, as one Run."""
    site = make_run("run-1")
    accepted = track(site, prefix="one") + track(site, prefix="two/deep")
    run = open_run(site.run)
    assert len(run.uris) == 2
    assert sum(1 for _ in run.events()) == accepted
    assert len(run.manifest.writers) == 2
    assert verify(site.run).ok


def test_a_run_without_events_is_an_error(make_run: RunFactory) -> None:
    """A Run that nothing was tracked into says so."""
    site = make_run("run-1")
    with pytest.raises(NotFoundError, match="there is no Run at"):
        open_run(site.run)
    with pytest.raises(NotFoundError, match="it was not tracked"):
        open_run((site.experiment, "run-1"), **options(site))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("status", [200, 403])
def test_a_page_of_somebody_else_is_no_run(
    status: int, page: Page, aws: EmbeddedAWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 200 that is not SageMaker's is read neither as a Run without parameters nor as an
    experiment without Runs."""
    monkeypatch.setattr("asynctrack._backends.s3_read.BACKOFF", 0.001)
    with fault_proxy(aws.endpoint_url) as proxy:
        proxy.add(Answer(status, page=page))
        session = boto3.Session("AK", "secret", region_name=aws.region)
        client = Access(endpoint_url=proxy.endpoint_url, session=session).client("sagemaker")
        for ask in (ask_for_run, ask_for_experiment):
            with pytest.raises(BackendError, match=r"^NotSageMaker: .*is not SageMaker"):
                ask(client, "some-name")
        client.close()
