"""Cost, by prices the user gives."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from asynctrack._errors import OptionError
from asynctrack._reading.experiment import open_experiment
from asynctrack._reading.export.files import export_run
from asynctrack._reading.run import open_run
from asynctrack._reading.trees.build import build_traces
from asynctrack._reading.trees.prices import cost_of, read_prices
from tests.reading.making import RunFolder, event
from tests.reading.test_build import Log

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


AUDIO = {"audio_in": 1.0, "audio_out": 2.0}
CACHED = {"in": 1.0, "out": 2.0, "cache_read": 0.1, "cache_write": 2.0, **AUDIO}
ANSWER = {
    "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 1_000_000,
    "gen_ai.usage.output_tokens": 500_000, "gen_ai.usage.cache_read.input_tokens": 600_000,
    "gen_ai.usage.cache_write.input_tokens": 100_000, "gen_ai.usage.reasoning.output_tokens": 400,
    "gen_ai.usage.audio.input_tokens": 5, "gen_ai.usage.audio.output_tokens": 6,
}  # fmt: skip
PARTS = {
    "cache_read_tokens": 600_000, "cache_write_tokens": 100_000, "reasoning_tokens": 400,
    "audio_input_tokens": 5, "audio_output_tokens": 6,
}  # fmt: skip


@pytest.fixture
def cached(folder: RunFolder) -> RunFolder:
    """A call of which a part came from the provider's cache, and one without a price."""
    unpriced = {**ANSWER, "gen_ai.request.model": "x"}
    folder.artifact(
        [
            event(1, kind="llm_end", span_id="a", trace_id="a", attributes=ANSWER),
            event(2, kind="llm_end", span_id="b", trace_id="b", attributes=unpriced),
        ]
    )
    folder.manifest()
    return folder


@pytest.mark.parametrize(
    ("rates", "cost"),
    [
        (CACHED, 0.3 + 0.06 + 0.2 + 1.0),
        ({"in": 1, "out": 2, "cache_read": 0, **AUDIO}, 0.3 + 0.0 + 0.1 + 1.0),
        ({"in": 1, "out": 2, "cache_write": 1.25, **AUDIO}, 0.3 + 0.6 + 0.125 + 1.0),
        ({"out": 2, "in": 1, **AUDIO}, 2.0),
    ],
)  # fmt: skip
def test_the_cache_has_rates_of_its_own(cached: RunFolder, rates: Any, cost: float) -> None:
    """What came from the cache and went into it costs what its rates say, else what input costs."""
    recorded = open_run(cached.path, prices={"m": rates})
    summary = recorded.summary()
    assert (summary.cost, summary.unpriced) == (pytest.approx(cost), 1)
    assert {name: getattr(summary, name) for name in PARTS} == {
        name: 2 * tokens for name, tokens in PARTS.items()
    }


def test_more_cached_than_read_costs_no_less_than_nothing() -> None:
    """Where the parts are more than the whole, no plain input is left to pay for."""
    rates = (read_prices({"m": CACHED}) or {})["m"]
    assert rates.cost(10, 0, cache_read=1_000_000) == pytest.approx(0.1)


def test_cost_and_parts_are_columns(cached: RunFolder) -> None:
    """Data frames, Arrow, DuckDB, Parquet, JSON lines and CSV have them; no cost without prices."""
    recorded = open_run(cached.path, prices={"m": CACHED})
    expected = [pytest.approx(1.56), None]
    table = recorded.to_arrow()
    assert table["cost"].to_pylist() == expected
    for name, tokens in PARTS.items():
        assert table[name].to_pylist() == [tokens, tokens]
    frame = recorded.to_pandas()
    assert frame["cost"].tolist()[0] == expected[0] and frame["cost"].isna().tolist() == [
        False,
        True,
    ]
    assert frame["reasoning_tokens"].tolist() == [400, 400]
    sql = "SELECT cost, cache_read_tokens FROM spans ORDER BY span_id"
    assert recorded.to_duckdb().sql(sql).fetchall() == [(expected[0], 600_000), (None, 600_000)]
    out = io.BytesIO()
    export_run(recorded, "parquet", out)
    assert parquet.read_table(out)["cost"].to_pylist() == expected
    out = io.BytesIO()
    export_run(recorded, "jsonl", out, table="spans")
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["cost"] for row in rows] == expected and rows[0]["audio_input_tokens"] == 5
    out = io.BytesIO()
    export_run(recorded, "csv", out)
    cells = list(csv.DictReader(io.StringIO(out.getvalue().decode())))
    assert [cell["cost"] for cell in cells] == ["1.56", ""]
    assert open_run(cached.path).to_arrow()["cost"].to_pylist() == [None, None]
    out = io.BytesIO()
    export_run(recorded, "otlp", out)
    assert b"gen_ai.usage.cache_read.input_tokens" in out.getvalue()


@pytest.mark.parametrize(
    ("rates", "named"),
    [
        ({"in": 1}, r"prices\['m'\]\['out'\]"),
        ({"out": 1}, r"prices\['m'\]\['in'\]"),
        ({"in": 1, "out": 2, "cache_read": -1}, r"prices\['m'\]\['cache_read'\]=-1"),
        ({"in": 1, "out": 2, "cache_write": None}, r"prices\['m'\]\['cache_write'\]=None"),
        ({"in": 1, "out": 2, "cache_write": "3"}, r"prices\['m'\]\['cache_write'\]='3'"),
        ({"in": True, "out": 2}, r"prices\['m'\]\['in'\]=True"),
        ({"in": 1, "out": 2, "cached": 1}, r"prices\['m'\]\['cached'\].*one of in, out"),
    ],
)  # fmt: skip
def test_a_wrong_rate_is_named(rates: Any, named: str) -> None:
    """The error names the model and the rate."""
    with pytest.raises(OptionError, match=named):
        read_prices({"m": rates})


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


def test_audio_has_prices_of_its_own_or_none() -> None:
    """A wrong number is worse than none: without a rate for it, a call with audio has no cost."""
    usage = {
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 1_000_000, "gen_ai.usage.audio.input_tokens": 400_000,
        "gen_ai.usage.output_tokens": 500_000, "gen_ai.usage.audio.output_tokens": 100_000,
    }  # fmt: skip
    log = Log()
    log("chat_model_start", "root")
    log("llm_end", "root", attributes=usage)
    (trace,) = build_traces(log.events)
    rates = {"in": 1, "out": 2}
    for given, cost in (
        (rates, None),
        ({**rates, "audio_in": 10}, None),
        ({**rates, "audio_in": 10, "audio_out": 20}, 0.6 + 4 + 0.8 + 2),
    ):
        prices = read_prices({"m": given})
        assert prices is not None
        assert cost_of(trace.root, prices) == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize(
    "text", ['{"m": [1%s, 1]}' % ("0" * 400), '{"\\ud800": [1, 1]}', '{"a\\nb": [1, 1]}']
)
def test_hostile_prices_are_refused(tmp_path: Path, text: str) -> None:
    """A rate that is no number of a machine, and a model that no text can name, are refused."""
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(OptionError):
        read_prices(file)


def test_a_home_that_is_none_is_refused() -> None:
    """A file of a user who does not exist is not there, as any other."""
    with pytest.raises(OptionError, match="no such user"):
        read_prices("~no such user/prices.json")
