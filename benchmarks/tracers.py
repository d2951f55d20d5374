"""What is compared: no handler, empty handlers, asynctrack in its variants, and its peers.

Each tracer is started once in a process and flushed after each round; what a round costs is
measured with the tracer *on*, everything else is not timed. Peers are imported by name: they are an
extra of their own, and a tracer that is not installed is left out and named.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from asynctrack.demo._workload import EmptyAsync
from benchmarks._servers import Servers, make_run


class Tracer:
    """One way to be told of LangChain's callbacks."""

    def prepare(self) -> None:
        """Import what it needs. Called for all tracers before anything is measured."""

    def start(self, servers: Servers, *, sync: bool, loop: asyncio.AbstractEventLoop) -> None:
        """Connect it."""

    def config(self) -> dict[str, Any]:
        """Return the config of an invocation."""
        return {}

    def on(self) -> None:
        """Switch it on, where that is process-wide."""

    def off(self) -> None:
        """Switch it off."""

    def flush(self) -> None:
        """Deliver everything."""

    def stop(self) -> dict[str, Any]:
        """End it; return what it says of itself."""
        return {}


class _WithHandler(Tracer):
    handler: Any = None

    def config(self) -> dict[str, Any]:
        return {"callbacks": [self.handler]}


class Empty(_WithHandler):
    """A handler whose methods do nothing: ``async``, ``inline`` or ``sync``."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def prepare(self) -> None:
        from langchain_core.callbacks import BaseCallbackHandler

        class EmptySync(BaseCallbackHandler):
            def on_chat_model_start(self, *arguments: Any, **options: Any) -> None:
                pass

        class EmptyInline(EmptyAsync):
            run_inline = True

        kinds = {"async": EmptyAsync, "inline": EmptyInline, "sync": EmptySync}
        self.handler = kinds[self._kind]()


@dataclass
class Asynctrack(_WithHandler):
    """asynctrack into a Run (rclone's S3 and the embedded SageMaker), or into a folder."""

    options: Mapping[str, Any] = field(default_factory=dict)
    into: str = "run"

    def prepare(self) -> None:
        import aioboto3  # noqa: F401  # the worker's imports, for all variants alike
        import sagemaker.experiments.run  # noqa: F401  # the user's import, for all alike

        import asynctrack._tracker  # noqa: F401  # for all variants alike

    def start(self, servers: Servers, *, sync: bool, loop: asyncio.AbstractEventLoop) -> None:
        from asynctrack import tracker

        self._loop, self._sync = loop, sync
        self._folder = tempfile.TemporaryDirectory(prefix="asynctrack-bench-")
        options = dict(self.options)
        known = option_names()
        if "spool_dir" in known:  # nothing of the user's own machine, and nothing left behind
            options["spool_dir"] = os.path.join(self._folder.name, "spool")
        run = self._folder.name if self.into == "folder" else make_run(servers, "bench")
        self._tracker = tracker(run, **options)
        if sync:
            self.handler = self._tracker.__enter__()
        else:
            self.handler = loop.run_until_complete(self._tracker.__aenter__())

    def flush(self) -> None:
        if self._sync:
            self.handler.flush()
        else:
            self._loop.run_until_complete(self.handler.flush())

    def stop(self) -> dict[str, Any]:
        if self._sync:
            self._tracker.close()
        else:
            self._loop.run_until_complete(self._tracker.aclose())
        told = self._tracker.statistics()
        self._folder.cleanup()
        return {
            "accepted": told.accepted,
            "delivered_events": told.delivered,
            "dropped": dict(told.dropped),
            "requests": told.artifacts + told.retries + told.run_updates,
            "bytes": told.bytes_delivered,
        }


def option_names() -> frozenset[str]:
    """Return the options that this asynctrack has; the suite also measures older ones."""
    from asynctrack._options import Options

    return frozenset(Options.__dataclass_fields__)


def option_choices(option: str) -> tuple[str, ...]:
    """Return what an option may be, or nothing where this asynctrack has no such option."""
    from asynctrack import _options

    if option not in option_names():
        return ()
    return tuple(get_args(getattr(_options, option.capitalize(), None)))


# -- peers ------------------------------------------------------------------------------------


class _Stubbed(_WithHandler):
    """A peer whose server is the stub."""

    _stub = ""

    def start(self, servers: Servers, *, sync: bool, loop: asyncio.AbstractEventLoop) -> None:
        self._stub = servers["stub"]
        self.connect()
        self.received()

    def connect(self) -> None:
        """Make the handler."""

    def received(self) -> dict[str, Any]:
        """Return what the stub received since the last time."""
        with urllib.request.urlopen(f"{self._stub}/__counts") as answer:
            counts: dict[str, Any] = json.load(answer)
        return counts


class LangSmith(_Stubbed):
    """LangSmith's tracer with its client's background thread."""

    def prepare(self) -> None:
        importlib.import_module("langsmith")
        importlib.import_module("langchain_core.tracers.langchain")

    def connect(self) -> None:
        client_class = importlib.import_module("langsmith").Client
        tracers = importlib.import_module("langchain_core.tracers.langchain")
        self._client = client_class(api_url=self._stub, api_key="stub")
        self.handler = tracers.LangChainTracer(client=self._client, project_name="bench")

    def flush(self) -> None:
        self.handler.wait_for_futures()
        self._client.flush()

    def stop(self) -> dict[str, Any]:
        self.flush()
        self._client.cleanup()
        return {}


class Langfuse(_Stubbed):
    """Langfuse's handler."""

    def prepare(self) -> None:
        importlib.import_module("langfuse.langchain")

    def connect(self) -> None:
        langfuse = importlib.import_module("langfuse")
        self._client = langfuse.Langfuse(public_key="pk", secret_key="sk", base_url=self._stub)
        self.handler = importlib.import_module("langfuse.langchain").CallbackHandler()

    def flush(self) -> None:
        self._client.flush()

    def stop(self) -> dict[str, Any]:
        self._client.shutdown()
        return {}


class OpenInference(_Stubbed):
    """OpenInference's instrumentation with OpenTelemetry's batch processor."""

    def prepare(self) -> None:
        for module in (
            "openinference.instrumentation.langchain",
            "opentelemetry.sdk.trace.export",
            "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        ):
            importlib.import_module(module)

    def connect(self) -> None:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        exporter = otlp.OTLPSpanExporter(endpoint=f"{self._stub}/v1/traces")
        self._provider = sdk.TracerProvider()
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter))
        langchain = importlib.import_module("openinference.instrumentation.langchain")
        self._instrumentor = langchain.LangChainInstrumentor()

    def config(self) -> dict[str, Any]:
        return {}

    def on(self) -> None:
        self._instrumentor.instrument(
            tracer_provider=self._provider, skip_dep_check=True, raise_exception_on_conflict=False
        )

    def off(self) -> None:
        self._instrumentor.uninstrument()

    def flush(self) -> None:
        self._provider.force_flush(120_000)

    def stop(self) -> dict[str, Any]:
        self._provider.shutdown()
        return {}


class MLflow(_Stubbed):
    """MLflow's autolog with its asynchronous export over HTTP."""

    def prepare(self) -> None:
        importlib.import_module("mlflow.langchain")

    def connect(self) -> None:
        self._mlflow = importlib.import_module("mlflow")
        self._mlflow.set_tracking_uri(self._stub)
        self._mlflow.set_experiment(experiment_id="1")

    def config(self) -> dict[str, Any]:
        return {}

    def on(self) -> None:
        self._mlflow.langchain.autolog(silent=True)

    def off(self) -> None:
        self._mlflow.langchain.autolog(disable=True, silent=True)

    def flush(self) -> None:
        self._mlflow.flush_trace_async_logging()


class SageMakerHandler(_WithHandler):
    """langchain-community's ``SageMakerCallbackHandler``, the one that asynctrack replaces.

    Its Run is limited to 30 artifacts; what it does after that is to raise for each event.
    """

    def prepare(self) -> None:
        importlib.import_module("langchain_community.callbacks.sagemaker_callback")
        import sagemaker.experiments.run  # noqa: F401  # its Run

    def start(self, servers: Servers, *, sync: bool, loop: asyncio.AbstractEventLoop) -> None:
        module = importlib.import_module("langchain_community.callbacks.sagemaker_callback")
        self._run = make_run(servers, "replaced")
        self._run.__enter__()
        self.handler = module.SageMakerCallbackHandler(self._run)

    def stop(self) -> dict[str, Any]:
        stored = len(self._run._trial_component.output_artifacts)
        self._run.__exit__(None, None, None)
        return {"delivered_events": stored}


# -- the table --------------------------------------------------------------------------------


def _variants() -> dict[str, Callable[[], Tracer]]:
    found: dict[str, Callable[[], Tracer]] = {}
    for option in ("durability", "overflow"):
        for choice in option_choices(option):
            found[f"asynctrack {option}={choice}"] = _variant(option, choice)
    found["asynctrack into a folder"] = lambda: Asynctrack(into="folder")
    return found


def _variant(option: str, choice: str) -> Callable[[], Tracer]:
    options: dict[str, Any] = {option: choice}
    if option == "overflow" and choice != "spool" and "memory" in option_choices("durability"):
        options["durability"] = "memory"  # these two are what the buffer in memory does when full
    return lambda: Asynctrack(options=options)


BASE = "no handler"
EMPTY = "empty async handler"
EMPTY_SYNC = "empty sync handler"
INLINE = "empty inline handler"
OURS = "asynctrack"

CORE: dict[str, Callable[[], Tracer]] = {
    BASE: Tracer,
    EMPTY: lambda: Empty("async"),
    INLINE: lambda: Empty("inline"),
    OURS: Asynctrack,
}
VARIANTS = _variants()
PEERS: dict[str, Callable[[], Tracer]] = {
    "LangSmith": LangSmith,
    "Langfuse": Langfuse,
    "OpenInference + OTel batch": OpenInference,
    "MLflow autolog": MLflow,
    "SageMakerCallbackHandler": SageMakerHandler,
}
TRACERS: dict[str, Callable[[], Tracer]] = {
    **CORE,
    EMPTY_SYNC: lambda: Empty("sync"),
    **VARIANTS,
    **PEERS,
}


def installed(name: str) -> str | None:
    """Tell why a tracer cannot be measured here: the missing module, or None."""
    needs = {
        "LangSmith": "langsmith",
        "Langfuse": "langfuse",
        "OpenInference + OTel batch": "openinference.instrumentation.langchain",
        "MLflow autolog": "mlflow",
        "SageMakerCallbackHandler": "langchain_community",
    }
    module = needs.get(name)
    try:
        if module is not None and importlib.util.find_spec(module) is None:
            return module
    except ModuleNotFoundError:
        return module
    return None
