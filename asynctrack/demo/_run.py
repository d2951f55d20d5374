"""Runs scenarios, each as a Run of its own, and reads back what they logged."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ._models import ModelServer
from ._notebook import CLASSIC_SCENARIOS, ClassicScenario
from ._sagemaker import sagemaker_sdk
from ._scenarios import SCENARIOS, Scenario

_FIRST_CALL = ("llm_start", "chat_model_start")


class NothingLogged(LookupError):
    """What a Run should have logged is not where its parameters say it is."""


@dataclass(frozen=True)
class Outcome:
    """What one scenario did.

    Attributes:
        scenario: 1, 2 or 3.
        style: ``"lcel"`` or ``"classic"``.
        title: What it shows.
        experiment: The experiment's name.
        run: The Run's name.
        answer: What the chain or the agent answered.
        statistics: `handler.statistics()` after the tracker was left, as a dict.
    """

    scenario: int
    style: str
    title: str
    experiment: str
    run: str
    answer: str
    statistics: dict[str, Any]


@dataclass(frozen=True)
class LoggedCall:
    """One call of a model, as it was read back from S3."""

    address: str
    events: int
    prompt: str
    answer: str


def planned(numbers: Iterable[int], style: str) -> list[tuple[str, Scenario | ClassicScenario]]:
    """The scenarios to run, with their styles.

    Args:
        numbers: Some of 1, 2 and 3.
        style: ``"lcel"``, ``"classic"`` or ``"both"``.
    """
    wanted = set(numbers)
    plan: list[tuple[str, Scenario | ClassicScenario]] = []
    if style in ("lcel", "both"):
        plan += [("lcel", scenario) for scenario in SCENARIOS if scenario.number in wanted]
    if style in ("classic", "both"):
        plan += [("classic", item) for item in CLASSIC_SCENARIOS if item.number in wanted]
    return plan


def run_scenario(
    scenario: Scenario | ClassicScenario,
    *,
    experiment: str,
    run_name: str,
    session: Any,
    server: ModelServer,
) -> Outcome:
    """Run one scenario as a Run of SageMaker Experiments.

    Args:
        scenario: The scenario.
        experiment: The experiment's name.
        run_name: The Run's name.
        session: A session of the SageMaker SDK.
        server: The model server.
    """
    lcel = isinstance(scenario, Scenario)
    facts = {"scenario": scenario.title, "style": "lcel" if lcel else "classic"}
    make_run = sagemaker_sdk().Run
    with make_run(experiment_name=experiment, run_name=run_name, sagemaker_session=session) as run:
        if isinstance(scenario, Scenario):
            answer, statistics = asyncio.run(_tracked(scenario, run, server, facts))
        else:
            answer, statistics = _in_notebook(scenario, run, server, facts)
    return Outcome(
        scenario=scenario.number,
        style=facts["style"],
        title=scenario.title,
        experiment=experiment,
        run=run_name,
        answer=answer,
        statistics={**asdict(statistics), "dropped": dict(statistics.dropped)},
    )


async def _tracked(
    scenario: Scenario, run: Any, server: ModelServer, facts: dict[str, str]
) -> tuple[str, Any]:
    from asynctrack import tracker

    async with tracker(run) as handler:
        handler.log_parameters(facts)
        answer = await scenario.run(handler, server)
        handler.log_metric("answer_characters", len(answer))
    return answer, handler.statistics()


def _in_notebook(
    scenario: ClassicScenario, run: Any, server: ModelServer, facts: dict[str, str]
) -> tuple[str, Any]:
    from asynctrack.compat import SageMakerCallbackHandler

    handler = SageMakerCallbackHandler(run)
    try:
        handler.log_parameters(facts)
        answer = scenario.run(handler, server)
        handler.log_metric("answer_characters", len(answer))
        handler.flush_tracker()
    finally:
        handler.close()
    return answer, handler.statistics()


def real_session(boto_session: Any) -> Any:
    """A session of the SageMaker SDK for an account of the user's.

    Args:
        boto_session: A boto3 session with credentials and a region.
    """
    return sagemaker_sdk().Session(boto_session=boto_session)


def data_frame(experiment: str, session: Any, outcomes: list[Outcome]) -> Any:
    """ExperimentAnalytics' data frame with a row for each outcome's Run, in their order."""
    analytics = sagemaker_sdk().ExperimentAnalytics
    frame = analytics(experiment, sagemaker_session=session).dataframe()
    names = [f"{experiment}-{outcome.run}" for outcome in outcomes]
    mine = frame[frame["TrialComponentName"].isin(names)]
    order = mine["TrialComponentName"].map(names.index)
    return mine.loc[order.sort_values().index].reset_index(drop=True)


def addresses(frame: Any, outcomes: list[Outcome]) -> dict[str, str]:
    """Where each Run's events lie, by its name, as its parameter in the data frame says.

    Raises:
        NothingLogged: A Run does not say it.
    """
    rows = frame.set_index("TrialComponentName").to_dict("index")
    found: dict[str, str] = {}
    for outcome in outcomes:
        address = rows.get(f"{outcome.experiment}-{outcome.run}", {}).get("asynctrack.events")
        if not isinstance(address, str):
            raise NothingLogged(
                f"The Run {outcome.run} has no parameter asynctrack.events: its events were not "
                f"delivered ({outcome.statistics['delivered']} of "
                f"{outcome.statistics['accepted']}). The warnings above say why."
            )
        found[outcome.run] = address
    return found


def keys_below(address: str, session: Any) -> list[str]:
    """The addresses of all objects below an S3 address."""
    bucket, prefix = _split(address)
    pages = session.boto_session.client("s3").get_paginator("list_objects_v2")
    return [
        f"s3://{bucket}/{item['Key']}"
        for page in pages.paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Contents", [])
    ]


def read_events(address: str, session: Any) -> Any:
    """All events below a Run's S3 address, as a pandas data frame with a row for each.

    Raises:
        NothingLogged: There are none.
    """
    import pandas

    client = session.boto_session.client("s3")
    frames = []
    for key in keys_below(address, session):
        if "/dt=" not in key:
            continue
        bucket, name = _split(key)
        body = client.get_object(Bucket=bucket, Key=name)["Body"].read()
        # The types as they are stored: pandas would make dates of numbers and numbers of text.
        frames.append(
            pandas.read_json(
                io.BytesIO(body), lines=True, compression="zstd", dtype=False, convert_dates=False
            )
        )
    if not frames:
        raise NothingLogged(f"There are no events below {address}.")
    lines = pandas.concat(frames, ignore_index=True)
    return lines[lines["event"] != "value"]


def first_call(address: str, session: Any) -> LoggedCall:
    """The first call of a model in a Run: its prompt and its answer, out of S3.

    Raises:
        NothingLogged: There is none.
    """
    events = read_events(address, session)
    for start in events[events["event"].isin(_FIRST_CALL)].to_dict("records"):
        ends = events[(events["event"] == "llm_end") & (events["span_id"] == start["span_id"])]
        if len(ends):
            prompt, answer = _prompt(start["inputs"]), _answer(ends.iloc[0]["outputs"])
            return LoggedCall(address, len(events), prompt, answer)
    raise NothingLogged(f"There is no finished call of a model below {address}.")


def _prompt(inputs: dict[str, Any]) -> str:
    if "prompts" in inputs:
        return str(inputs["prompts"][0])
    messages = inputs["messages"][0]
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n".join(f"{message['type']}: {message['content']}" for message in messages)


def _answer(outputs: dict[str, Any]) -> str:
    generation = outputs["generations"][0][0]
    calls = (generation.get("message") or {}).get("tool_calls") or []
    wanted = [f"{call['name']}({json.dumps(call['args'])})" for call in calls]
    return "\n".join([*([generation["text"]] if generation["text"] else []), *wanted])


def _split(address: str) -> tuple[str, str]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key
