"""The gate that CI runs, and what it says."""

from __future__ import annotations

from typing import Any

from benchmarks import gate, stages


def _row(stage: str, low: float, value: float) -> dict[str, Any]:
    return {
        "stage": stage,
        "floor": "bare",
        "ratio": {"low": low, "value": value, "high": value * 2},
    }


def test_ratio_certainly_over_its_bound_fails_with_its_name() -> None:
    """What is too slow beyond doubt fails, and the text names it and where to look."""
    bound = gate.STAGE_BOUNDS["encode"]
    text = gate.verdict(gate.judge_stages([_row("encode", bound * 1.1, bound * 2)]))
    assert text is not None
    assert "encode / bare" in text
    assert "benchmarks.profile" in text


def test_noise_over_the_bound_passes() -> None:
    """A median over the bound whose interval reaches below it is no proof, and passes."""
    bound = gate.STAGE_BOUNDS["encode"]
    findings = gate.judge_stages([_row("encode", bound * 0.9, bound * 1.5)])
    assert findings
    assert gate.verdict(findings) is None


def test_lcel_ratio_is_judged() -> None:
    """The ratio to the empty async handler is part of the gate."""
    over = {"low": gate.LCEL_BOUND + 1, "value": gate.LCEL_BOUND + 2, "high": 99.0}
    result = {"tracers": {"asynctrack": {"thread_over_empty": over}}}
    assert gate.verdict(gate.judge_overhead(result)) is not None


def test_every_bound_belongs_to_a_stage_that_runs() -> None:
    """No bound is left behind by a stage that was renamed, and each stage runs both ways."""
    with stages.all_stages() as made:
        assert set(gate.STAGE_BOUNDS) <= {stage.name for stage in made}
        for stage in made:
            stage.ours(stage.setup())
            stage.floor(stage.setup())


def test_the_encode_stage_does_the_work_of_a_tracker(monkeypatch: Any) -> None:
    """What is measured is the encoder itself, once for each event that the figure is divided by."""
    from asynctrack._common import payload

    encoded: list[bytes] = []
    encode = payload.encode

    def counted(record: dict[str, Any]) -> bytes:
        encoded.append(encode(record))
        return encoded[-1]

    with stages.all_stages() as made:
        (stage,) = [one for one in made if one.name == "encode"]
        monkeypatch.setattr(payload, "encode", counted)
        stage.ours(stage.setup())
    assert len(encoded) == stage.events
    assert all(line.startswith(b'{"time_unix_nano":') for line in encoded)


def test_token_ratio_is_judged() -> None:
    """A streamed token that is certainly too dear fails, one that is not passes."""
    for low, wrong in ((gate.TOKEN_BOUND * 1.1, True), (gate.TOKEN_BOUND * 0.9, False)):
        result = {"ratio": {"low": low, "value": low * 2, "high": low * 3}}
        assert (gate.verdict(gate.judge_token(result)) is not None) is wrong
