"""Cost, by prices the user gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asynctrack._errors import OptionError
from asynctrack._reading.experiment import open_experiment
from asynctrack._reading.run import open_run
from asynctrack._reading.trees.prices import read_prices
from tests.reading.making import RunFolder, event

PRICES = {"small": (1.0, 2.0), "large": (10.0, 40.0)}


def calls(*made: tuple[str, str, int | None, int | None]) -> list[dict[str, Any]]:
    """Model calls: model asked for, model that answered, tokens in and out."""
    events = []
    for number, (asked, answered, read, written) in enumerate(made):
        ids = {"span_id": f"s{number}", "trace_id": f"s{number}"}
        request = {"gen_ai.request.model": asked} if asked else {}
        answer: dict[str, Any] = {"gen_ai.response.model": answered} if answered else {}
        if read is not None:
            answer["gen_ai.usage.input_tokens"] = read
        if written is not None:
            answer["gen_ai.usage.output_tokens"] = written
        events += [
            event(2 * number + 1, kind="llm_start", attributes=request, **ids),
            event(2 * number + 2, kind="llm_end", attributes=answer, **ids),
        ]
    return events


@pytest.fixture
def run(folder: RunFolder) -> RunFolder:
    """Two priced calls, one of the model that answered under a longer name; two without a price."""
    folder.artifact(
        calls(
            ("small", "", 1_000_000, 500_000),
            ("large", "large-2026-01-01", 200_000, 100_000),
            ("unheard-of", "", 5, 5),
            ("small", "", None, None),
        )
    )
    folder.manifest()
    return folder


def test_cost_is_by_model_and_by_direction(run: RunFolder) -> None:
    """Tokens in and out have prices of their own; calls without one are counted, not guessed."""
    summary = open_run(run.path, prices=PRICES).summary()
    assert summary.cost == pytest.approx(1.0 + 1.0 + 2.0 + 4.0)
    assert summary.unpriced == 2
    other = open_run(run.path).summary(prices={"unheard-of": (1e6, 2e6)})
    assert (other.cost, other.unpriced) == (pytest.approx(15.0), 3)


def test_the_model_that_answered_counts_first(run: RunFolder) -> None:
    """A price for the very version that answered is taken in place of the one asked for."""
    prices = {**PRICES, "large-2026-01-01": (0.0, 10.0)}
    assert open_run(run.path, prices=prices).summary().cost == pytest.approx(1.0 + 1.0 + 1.0)


def test_without_prices_no_cost_is_known(run: RunFolder) -> None:
    """None is built in: no cost, rather than a wrong one."""
    summary = open_run(run.path).summary()
    assert (summary.cost, summary.unpriced) == (None, None)
    summary = open_run(run.path, prices={}).summary()
    assert (summary.cost, summary.unpriced) == (None, 4)


def test_prices_from_a_file_and_from_the_environment(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JSON file, named by the argument or by ASYNCTRACK_PRICES; experiments give the column."""
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(PRICES))
    assert open_run(run.path, prices=file).summary().cost == pytest.approx(8.0)
    monkeypatch.setenv("ASYNCTRACK_PRICES", str(file))
    assert open_run(run.path).summary().cost == pytest.approx(8.0)
    frame = open_experiment("jokes", root=run.root).to_pandas()
    assert list(frame["cost"]) == [pytest.approx(8.0)]
    assert list(frame["unpriced"]) == [2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"m": 1}, {"m": [1]}, {"m": [1, 2, 3]}, {"m": [1, -2]}, {"m": [1, "2"]}, {"m": [True, 1]},
        {"m": [1, float("nan")]}, {1: [1, 2]}, [1, 2], 7,
    ],
)  # fmt: skip
def test_prices_that_are_none_are_refused(wrong: Any) -> None:
    """The error names the option and what is allowed."""
    with pytest.raises(OptionError, match=r"prices.*USD per million"):
        read_prices(wrong)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """A file that is not there, or no JSON, is named."""
    with pytest.raises(OptionError, match=r"nowhere\.json"):
        read_prices(tmp_path / "nowhere.json")
    (tmp_path / "text").write_text("{")
    with pytest.raises(OptionError, match="text"):
        read_prices(tmp_path / "text")
