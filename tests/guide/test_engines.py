"""The page on engines: its own blocks, word for word, against a real S3 server."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import SSLError
from langchain_core.runnables import RunnableLambda

from asynctrack import tracker
from tests.e2e.chains import CHAIN_EVENTS, joke_chain
from tests.e2e.runs import RunFactory, Site
from tests.guide.pages import block
from tests.guide.test_examples import for_this_sdk
from tests.support.s3 import S3Server
from tests.support.tls import tls_proxy

AWKWARD: list[Any] = [{"a": 1, "A": 2}, "2020-01-01", 5, ["x", {"b": None}], {"a": "text"}]
"""Outputs whose keys differ in case only, and whose types differ from event to event."""


@pytest.fixture
def runs(make_run: RunFactory, users_s3: S3Server) -> dict[str, Site]:
    """Two Runs with the names of the page, tracked, in an experiment that no other test knows:
    the embedded AWS is there for all of them."""
    sites: dict[str, Site] = {}
    experiment = f"jokes-{uuid4().hex}"
    for name in ("scenario-1", "scenario-2"):
        sites[name] = site = make_run(name, experiment=experiment)
        with tracker(site.run) as handler:
            config: Any = {"callbacks": [handler]}
            joke_chain().invoke({"topic": name}, config)
            for value in AWKWARD:
                RunnableLambda(lambda given: given).invoke(value, config)
        site.leave()
    return sites


def test_reading_back(runs: dict[str, Site], s3: S3Server) -> None:
    """The blocks give a row for each event: pandas of the Run that it names, DuckDB of all."""
    read_with_pandas(runs)
    read_with_duckdb(runs, s3)


def test_a_stranger_on_the_way(
    runs: dict[str, Site], s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Behind a proxy whose certificate nobody trusts the blocks ask nothing; with its authority
    trusted they read all. s3fs sends nothing to a trusted stranger of another name either."""
    with tls_proxy(s3.endpoint_url) as gateway:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com")
        monkeypatch.setenv("HTTPS_PROXY", gateway.url)
        for read in (read_with_pandas, read_with_s3fs):
            with pytest.raises(SSLError):
                read(runs)
        gateway.wait_for_refusal(2)
        assert gateway.received == b""
        monkeypatch.setenv("AWS_CA_BUNDLE", gateway.bundle(tmp_path))
        read_with_pandas(runs)
        read_with_s3fs(runs)
        assert set(gateway.asked) == {"s3.example.com:443"}
    with tls_proxy(s3.endpoint_url, shows="other.example.com") as stranger:
        monkeypatch.setenv("AWS_CA_BUNDLE", stranger.bundle(tmp_path))
        for proxy, address in ((stranger.url, "https://s3.example.com"), ("", stranger.https_url)):
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
            with pytest.raises(SSLError):
                read_with_s3fs(runs)
        assert stranger.received == b""


def read_with_s3fs(runs: dict[str, Site]) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    code = block("engines", "s3fs")
    site = runs["scenario-1"]
    (key,) = [
        path.relative_to(site.s3.root)
        for path in (site.s3.folder / site.prefix).glob("dt=*/*.jsonl.zst")
    ]
    assert "s3://bucket/prefix/events.jsonl.zst" in code
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # s3fs' own
        exec(code.replace("s3://bucket/prefix/events.jsonl.zst", f"s3://{key}"), names)
    assert len(names["events"]) == CHAIN_EVENTS + 2 * len(AWKWARD)


def read_with_pandas(runs: dict[str, Site]) -> None:
    run = runs["scenario-1"].run
    code = for_this_sdk(block("engines", "pandas"))
    assert 'ExperimentAnalytics("jokes"' in code
    code = code.replace('"jokes"', repr(run.experiment_name))
    session = run._artifact_uploader.sagemaker_session
    # As a user's: the environment says where S3 is.
    session.boto_session = runs["scenario-1"].s3.boto_session()
    names: dict[str, Any] = {"session": session}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK's own
        exec(code, names)
    events = names["events"]
    assert len(events) == CHAIN_EVENTS + 2 * len(AWKWARD)
    (topic,) = events.iloc[0][["inputs"]]
    assert topic == {"topic": "scenario-1"}
    ends = events[(events["event"] == "chain_end") & (events["name"].isna())]
    assert [value for value in AWKWARD if value not in list(ends["outputs"])] == []


def read_with_duckdb(runs: dict[str, Site], s3: S3Server) -> None:
    # DuckDB's own way to S3 is an extension that it downloads; here fsspec takes its place.
    import duckdb
    import fsspec

    query = block("engines", "duckdb")
    prefix = runs["scenario-1"].prefix.partition("/asynctrack/v1/")[0]
    query = query.replace("=jokes/", f"={runs['scenario-1'].run.experiment_name}/")
    assert "s3://bucket/prefix/" in query
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # s3fs' own
        connection = duckdb.connect()
        connection.register_filesystem(fsspec.filesystem("s3", skip_instance_cache=True))
        place = query.replace("s3://bucket/prefix/", f"s3://{s3.bucket}/{prefix}/")
        rows = connection.execute(place).fetchall()
        connection.close()
    assert len(rows) == 2 * (CHAIN_EVENTS + 2 * len(AWKWARD))
    assert {row[0] for row in rows} == {"scenario-1", "scenario-2"}
    assert sum(row[3] == '{"a":1,"A":2}' for row in rows) == 2
