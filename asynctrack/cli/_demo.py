"""``asynctrack demo``: the three scenarios, tracked, shown and read back."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynctrack._install import install_command

from ._common import CODES, FAILED, OK, Missing
from ._demo_show import Report, show
from ._screen import Screen
from ._view import EXTRA, PACKAGES

if TYPE_CHECKING:
    from asynctrack.demo._aws import EmbeddedAWS
    from asynctrack.demo._models import ModelServer
    from asynctrack.demo._overhead import Overhead

EXPERIMENT = "asynctrack-demo"
#: What names services beyond this machine, by the beginning of variables of the environment.
_SERVICES = ("OPENAI_", "SERPAPI_", "LANGSMITH_", "LANGCHAIN_")
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
        "Without options nothing leaves this machine. The events stay in a folder, "
        f"{EXPERIMENT}, in the current one.",
        epilog=CODES,
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
        choices=("local", "openai"),
        default="local",
        help="local: a scripted server on this machine (default); openai: OpenAI, with "
        "OPENAI_API_KEY, or the server that OPENAI_BASE_URL names; OPENAI_MODEL names a model, and "
        "SERPAPI_API_KEY lets the agent search",
    )
    parser.add_argument(
        "--view", action="store_true", help="open the viewer afterwards, until Ctrl-C"
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
    lacking = "" if all(map(_is_there, PACKAGES)) else install_command(EXTRA)
    if options.view and lacking:
        raise Missing(f"--view needs packages that are not installed: {lacking}")
    if options.view and options.json:
        raise Missing("--view and --json are not allowed together")
    if options.aws == "real":
        _account()  # before anything is started
    server = _named_server() if options.llm == "openai" else None
    if server is None:
        _forget_services()
    with _quiet():
        report = replace(_demo(options, server), lacking=lacking)
    if options.json:
        print(json.dumps(_plain(report), indent=2, allow_nan=False))
    else:
        show(report, Screen())
    lost = sum(o.statistics["accepted"] - o.statistics["delivered"] for o in report.outcomes)
    if options.view:
        sys.stdout.flush()
        return _view(report)
    return FAILED if lost else OK


def _demo(options: argparse.Namespace, server: ModelServer | None) -> Report:
    progress = _Progress()
    with ExitStack() as stack:
        # They take seconds; the servers start meanwhile.
        importing = threading.Thread(target=_import_scenarios, name="import-scenarios", daemon=True)
        importing.start()
        aws = None
        if options.aws == "embedded":
            progress.say("Starting an embedded AWS ...")
            from asynctrack.demo._aws import embedded_aws

            aws = stack.enter_context(embedded_aws())
        if server is None:
            from asynctrack.demo._models import scripted_server

            server = stack.enter_context(scripted_server())
        importing.join()  # not beside the SDK: both import the same packages in another order
        progress.say("Importing the SageMaker SDK ...")
        session = _session(aws)
        from asynctrack.demo import _run

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
        keys = {name: _run.keys_below(at, session) for name, at in addresses.items()}
        return Report(
            aws=options.aws,
            model_server=server.shown,
            outcomes=outcomes,
            rows=[_row(row) for row in frame.to_dict("records")],
            keys=keys,
            logged=_run.first_call(addresses[outcomes[0].run], session),
            overhead=_overhead(session, progress) if measure else None,
            folder=str(_kept(keys, session)) if aws else None,
        )


def _kept(keys: dict[str, list[str]], session: Any) -> Path:
    from asynctrack.demo._folder import keep, new_folder

    folder = new_folder()
    keep((key for some in keys.values() for key in some), folder, session)
    return folder


def _view(report: Report) -> int:
    from . import make_parser

    place = report.folder or report.logged.address.rpartition("run=")[0]
    options = make_parser().parse_args(["view", place])
    return int(options.run(options))


def _named_server() -> ModelServer:
    """Return the server that the environment names, if it answers.

    Raises:
        Missing: None is named, or it does not answer.
    """
    from asynctrack.demo._models import named_server, why_unreachable

    try:
        server = named_server()
    except LookupError as error:
        raise Missing(f"--llm openai: {error}; without it, no server is needed") from error
    if why := why_unreachable(server):
        raise Missing(
            f"--llm openai: {server.shown} {why}; set OPENAI_BASE_URL and OPENAI_API_KEY, or leave"
            " it out: no server is needed then. Nothing was run"
        )
    return server


def _forget_services() -> None:
    """Take out of this process's environment what would send something to somebody."""
    for name in [*os.environ]:
        if name.startswith(_SERVICES):
            del os.environ[name]
    # A proxy of the user's does not know this machine's servers.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))


def _import_scenarios() -> None:
    for name in ("langchain_openai", "langchain.agents", "pandas"):
        with suppress(ImportError):  # told where it is used
            importlib.import_module(name)


def _session(aws: EmbeddedAWS | None) -> Any:
    if aws is not None:
        # For all code of this process that makes its own client, as the SDK does.
        os.environ.update(aws.environment())
        return aws.sagemaker_session()
    from asynctrack.demo._run import real_session

    return real_session(_account())


def _account() -> Any:
    """Return a session of boto3's for the user's own account.

    Raises:
        Missing: There are no credentials, or no region.
    """
    import boto3

    found = boto3.Session()
    if found.get_credentials() is None:
        raise Missing(
            "no AWS credentials found, nothing was run. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or run `aws configure`; or leave out --aws real."
        )
    if found.region_name is None:
        raise Missing("no AWS region found, nothing was run. Set AWS_REGION, e.g. to eu-west-1.")
    return found


def _overhead(session: Any, progress: _Progress) -> Overhead:
    from asynctrack.demo._overhead import measure_into_run

    progress.say("Measuring the overhead ...")
    return measure_into_run(f"{EXPERIMENT}-overhead", session)


def _check_packages(*, embedded: bool) -> None:
    needed = (*_SDK, *_SCENARIOS, "moto", "flask") if embedded else (*_SDK, *_SCENARIOS)
    missing = [name for name in needed if not _is_there(name)]
    if missing:
        # Beside an SDK that is there: another would bring its own boto3.
        extra = "scenarios" if not set(missing) & set(_SDK) else "demo"
        raise Missing(
            f"the demo needs packages that are not installed ({', '.join(missing)}):"
            f" {install_command(extra)}"
        )


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


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
