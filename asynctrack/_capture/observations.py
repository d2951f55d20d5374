"""What the callbacks notice for the Run: model configurations, prompts, measurements.

Callbacks of any thread write here, the worker reads. Distinct configurations are few, so only a
new one costs more than a look-up. Measurements are added up until the worker takes the sums.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from asynctrack._capture.attributes import Attribute
from asynctrack._common.measured import Measured

MAX_DISTINCT: Final = 1_000
"""Most distinct model configurations, and prompts; further ones are in the events only."""
MAX_POINTS: Final = 100_000
"""Most points of ``log_metric`` that wait for the worker; further ones are in the events only."""

Parameters = tuple[Mapping[str, Any], Mapping[str, Any]]
"""What ``log_parameters`` was given, and what the user's Run object held of it at that moment."""
Point = tuple[str, float, int, "int | None"]
"""What ``log_metric`` was given: name, value, time in nanoseconds, step."""


@dataclass(slots=True)
class News:
    """What is new since the worker last asked, oldest first.

    Attributes:
        parameters: What the user logged.
        models: Model configurations.
        prompts: Names of prompts.
        points: Metric points that the user logged.
    """

    parameters: list[Parameters] = field(default_factory=list)
    models: list[dict[str, Attribute]] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)


class Observations:
    """Collects from the callbacks, thread-safe and re-entrant.

    Args:
        local: Returns the parameters in the user's Run object.
        finite: Whether the Run takes finite metrics only.
    """

    def __init__(
        self, local: Callable[[], Mapping[str, Any]] = dict, *, finite: bool = True
    ) -> None:
        self._local = local
        self.finite = finite
        self._lock = threading.RLock()  # re-entrant: a finalizer may end a span while it is held
        self._window = Measured()
        self._models: set[object] = set()
        self._prompts: set[str] = set()
        # One queue for all: an empty deque takes 760 bytes, and there may be a thousand trackers.
        self._news: deque[tuple[str, Any]] = deque()
        self.points_skipped = 0

    def model(self, attributes: dict[str, Attribute]) -> None:
        """Note the configuration of a model call."""
        key = tuple(
            tuple(value) if value.__class__ is list else value
            for pair in attributes.items()
            for value in pair
        )
        if key not in self._models and len(self._models) < MAX_DISTINCT:
            self._models.add(key)
            self._news.append(("models", dict(attributes)))

    def prompt(self, name: str | None) -> None:
        """Note the name of a prompt template."""
        if name and name not in self._prompts and len(self._prompts) < MAX_DISTINCT:
            self._prompts.add(name)
            self._news.append(("prompts", name))

    def usage(self, attributes: Mapping[str, Attribute]) -> None:
        """Add the tokens of a model call, by the attributes of its answer."""
        with self._lock:
            self._window.usage(attributes)

    def end(self, seconds: float | None, *, model: bool, root: bool, failed: bool) -> None:
        """Add the end of a span; ``seconds`` is None if its start is unknown."""
        if model or root or failed:
            with self._lock:
                self._window.end(seconds, model=model, root=root, failed=failed)

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Hand over what ``log_parameters`` was given, and what the Run object holds now."""
        local = self._local()
        before = {name: local.get(name) for name in values if name in local} if local else {}
        self._news.append(("parameters", (dict(values), before)))

    def metric(self, name: str, value: float, time_unix_nano: int, step: int | None) -> None:
        """Hand over what ``log_metric`` was given."""
        if len(self._news) >= MAX_POINTS:
            self.points_skipped += 1
            return
        self._news.append(("points", (name, value, time_unix_nano, step)))

    # -- the worker's side --------------------------------------------------------------------

    def take_window(self) -> Measured:
        """Return the sums and start new ones."""
        with self._lock:
            window, self._window = self._window, Measured()
        return window

    def take_news(self) -> News:
        """Return what is new since the last call."""
        news = News()
        while self._news:
            kind, value = self._news.popleft()
            getattr(news, kind).append(value)
        return news
