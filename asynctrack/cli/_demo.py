"""``asynctrack demo``: the three scenarios, tracked, shown and read back."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from asynctrack._install import install_command

from ._common import Missing
from ._demo_show import Report, show
from ._screen import Screen

if TYPE_CHECKING:
    from asynctrack.demo._overhead import Overhead

EXPERIMENT = "asynctrack-demo"
#: Packages that the command needs, of `aws` or `aws-latest` and of `scenarios`; of the latter moto
#: only for the embedded AWS.
_SDK = ("aiobotocore", "boto3", "sagemaker")
_SCENARIOS = ("langchain", "langchain_classic", "langchain_openai", "pandas")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="run three LangChain scenarios and show what was tracked",
        description="Run three LangChain scenarios, track them, and show what was tracked. "
        "Without options nothing leaves this machine, unless OPENAI_BASE_URL, OPENAI_API_KEY or "
        "SERPAPI_API_KEY are set.",
        epilog="Exit codes: 0 it worked, 1 it did not, 2 something needed is missing.",
    )
    parser.add_argument(
        "--scenario", choices=("1", "2", "3", "all"), default="all", help="default: all"
    )
    parser.add_argument(
        "--style",
        choices=("lcel", "classic", "both"),
        default="lcel",
        help="today's LangChain, the old notebook's style with the drop-in handler, or both",
    )
    parser.add_argument(
        "--aws",
        choices=("embedded", "real"),
        default="embedded",
        help="an AWS on this machine that is gone afterwards (default), or your own account",
    )
    parser.add_argument(
        "--llm",
        choices=("auto", "local"),
        default="auto",
        help="auto: the server that OPENAI_BASE_URL and OPENAI_API_KEY name, else a scripted one "
        "on this machine; local: always the scripted one",
    )
    parser.add_argument(
        "--no-overhead", action="store_true", help="do not measure what tracking costs"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo and print its report.

    Raises:
        Missing: A package, the credentials or the region are not there.
    """
    _check_packages(embedded=options.aws == "embedded")
    with _quiet():
        report = _demo(options)
    if options.json:
        print(json.dumps(_plain(report), indent=2, allow_nan=False))
    else:
        show(report, Screen())
    lost = sum(o.statistics["accepted"] - o.statistics["delivered"] for o in report.outcomes)
    return 1 if lost else 0


def _demo(options: argparse.Namespace) -> Report:
    progress = _Progress()
    with ExitStack() as stack:
        session, aws = _session(options.aws, stack, progress)
        # Each of these modules imports what takes seconds; the servers start meanwhile.
        from asynctrack.demo import _run
        from asynctrack.demo._models import model_server

        server = stack.enter_context(model_server(local=options.llm == "local"))
        numbers = (1, 2, 3) if options.scenario == "all" else (int(options.scenario),)
        # In a real account the names of earlier demos are in use.
        suffix = "" if aws else time.strftime("-%Y%m%d-%H%M%S")
        measure = aws and not options.no_overhead
        outcomes = []
        for style, scenario in _run.planned(numbers, options.style):
            progress.say(f"Scenario {scenario.number}, {style}: {scenario.title} ...")
            name = f"scenario-{scenario.number}{'-classic' if style == 'classic' else ''}{suffix}"
            outcomes.append(
                _run.run_scenario(
                    scenario,
                    experiment=EXPERIMENT,
                    run_name=name,
                    session=session,
                    server=server,
                )
            )
        progress.say("Reading back ...")
        frame = _run.data_frame(EXPERIMENT, session, outcomes)
        addresses = _run.addresses(frame, outcomes)
        return Report(
            aws=options.aws,
            model_server=server.base_url or "OpenAI",
            outcomes=outcomes,
            rows=[_row(row) for row in frame.to_dict("records")],
            keys={name: _run.keys_below(at, session) for name, at in addresses.items()},
            logged=_run.first_call(addresses[outcomes[0].run], session),
            overhead=_overhead(session, progress) if measure else None,
        )


def _session(kind: str, stack: ExitStack, progress: _Progress) -> tuple[Any, bool]:
    if kind == "embedded":
        progress.say("Starting an embedded AWS ...")
        from asynctrack.demo._aws import embedded_aws

        aws = stack.enter_context(embedded_aws())
        # For all code of this process that makes its own client, as the SDK does.
        os.environ.update(aws.environment())
        progress.say("Importing the SageMaker SDK ...")
        return aws.sagemaker_session(), True
    import boto3

    found = boto3.Session()
    if found.get_credentials() is None:
        raise Missing(
            "no AWS credentials found, nothing was run. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or run `aws configure`; or leave out --aws real."
        )
    if found.region_name is None:
        raise Missing("no AWS region found, nothing was run. Set AWS_REGION, e.g. to eu-west-1.")
    progress.say("Importing the SageMaker SDK ...")
    from asynctrack.demo._run import real_session

    return real_session(found), False


def _overhead(session: Any, progress: _Progress) -> Overhead:
    from asynctrack.demo._overhead import measure_into_run

    progress.say("Measuring the overhead ...")
    return measure_into_run(f"{EXPERIMENT}-overhead", session)


def _check_packages(*, embedded: bool) -> None:
    needed = (*_SDK, *_SCENARIOS, "moto", "flask") if embedded else (*_SDK, *_SCENARIOS)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        # Beside an SDK that is there: another would bring its own boto3.
        extra = "scenarios" if not set(missing) & set(_SDK) else "demo"
        raise Missing(
            f"the demo needs packages that are not installed ({', '.join(missing)}):"
            f" {install_command(extra)}"
        )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    # NaN is what pandas writes where a Run has no value in a column.
    return {key: value for key, value in row.items() if value is not None and value == value}


def _plain(report: Report) -> dict[str, Any]:
    plain = {**asdict(report)}
    if plain["overhead"] is None:
        del plain["overhead"]
    return plain


class _Progress:
    """Says on a terminal's standard error what takes a while."""

    def say(self, text: str) -> None:
        if sys.stderr.isatty():
            print(text, file=sys.stderr)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what libraries print about themselves; asynctrack's own warnings stay.

    The SageMaker SDK configures the root logger, installs a handler of its own and changes how
    exceptions are printed when it is imported; pydantic and others warn. The demo is the whole
    process, so all of this is set for good but for the exception hook.
    """
    warnings.simplefilter("ignore")
    root = logging.getLogger()
    # With a handler on it, the SDK's basicConfig does nothing.
    root.addHandler(logging.NullHandler())
    logging.disable(logging.INFO)
    for name in ("sagemaker", "sagemaker.config", "botocore", "boto3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    own = logging.getLogger("asynctrack")
    if not own.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("asynctrack: %(message)s"))
        own.addHandler(handler)
    hook = sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook
