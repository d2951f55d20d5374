"""``asynctrack diff``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from asynctrack._reading.trees.compare import Fingerprint, match, steady

from tests.cli.conftest import Command
from tests.cli.runs import HOSTILE, make_run, prices, trace_id

pytestmark = pytest.mark.may_block("no event loop in here")


def two_runs(root: Path) -> None:
    """The same four questions; in the second Run the prompt, an answer and a latency differ."""
    topics = ("fish", "cats", "dogs", "ants")
    make_run(root, "a", [{"topic": one} for one in topics], temperature=0.1, kept="same")
    changed = [{"topic": one} for one in reversed(topics)]
    changed[0]["answer"] = "Ho ho"
    changed[1]["prompt"] = "Tell us a joke"
    changed[2]["seconds"] = 3.0  # type: ignore[assignment]
    make_run(root, "b", [*changed, {"topic": "owls"}], temperature=0.9, kept="same", added=[1])


def test_what_differs_is_shown(
    tmp_path: Path, command: Command, bucket: Callable[[Path], list[str]]
) -> None:
    """Parameters, numbers, and the prompts and outputs of traces to the same inputs."""
    two_runs(tmp_path)
    address, endpoint = bucket(tmp_path)
    stored = [f"{address}/asynctrack/v1/experiment=jokes/run={one}" for one in "ab"]
    for names in (["jokes/a", "jokes/b", "--root", tmp_path], [*stored, endpoint]):
        printed = command("diff", *names, "--prices", prices(tmp_path / "prices.json"))
        assert printed.code == 0 and printed.err == ""
        lines = [" ".join(line.split()) for line in printed.out.splitlines()]
        assert "temperature 0.1 0.9" in lines and "added – [1]" in lines
        assert not any(line.startswith("kept ") for line in lines)
        assert "traces 4 5 +25%" in lines and "trace p99 1 s 3 s +200%" in lines
        assert "cost $0.000200 $0.000250 +25%" in lines
        assert "Traces to the same inputs: 4; other prompts in 1, other outputs in 1" in lines
        assert "Only in B: 1 traces, the first is " + trace_id(5) in lines
        assert "- Tell me a joke about dogs" in lines and "+ Tell us a joke about dogs" in lines
        assert "- Ha" in lines and "+ Ho ho" in lines
        assert not any("about cats" in line for line in lines), "only a latency differs"


def test_the_document_has_all_of_it(tmp_path: Path, command: Command) -> None:
    """--json: numbers of both, parameters that differ, matches, and texts as they are."""
    two_runs(tmp_path)
    shown = command("diff", "jokes/a", "jokes/b", "--root", tmp_path, "--json").document
    assert shown["parameters"]["temperature"] == {"first": 0.1, "second": 0.9}
    assert shown["traces"]["matched"] == 4 and shown["traces"]["only_first"] == []
    assert (shown["traces"]["same_prompts"], shown["traces"]["same_outputs"]) == (3, 3)
    assert (shown["first"]["traces"], shown["second"]["traces"]) == (4, 5)
    texts = {one["inputs"]["topic"]: one["texts"] for one in shown["different"]}
    assert set(texts) == {"ants", "dogs"}
    assert texts["ants"] == [{"what": "output", "first": "Ha", "second": "Ho ho"}]
    (prompt,) = texts["dogs"]
    assert prompt["what"] == "prompt of ChatOpenAI"


def test_the_exit_code_says_it_where_asked(tmp_path: Path, command: Command) -> None:
    """0 without --exit-code and for a Run against itself; 1 where something differs."""
    two_runs(tmp_path)
    root = ["--root", tmp_path]
    assert command("diff", "jokes/a", "jokes/b", *root).code == 0
    assert command("diff", "jokes/a", "jokes/b", "--exit-code", *root).code == 1
    same = command("diff", "jokes/a", "jokes/a", "--exit-code", *root)
    assert same.code == 0 and "Parameters: all the same" in same.out
    assert command("diff", "jokes/a", "jokes/nowhere", *root).code == 2


def test_only_so_many_are_shown(tmp_path: Path, command: Command) -> None:
    """Of many that differ the first ones are shown, and how many more there are."""
    make_run(tmp_path, "a", [{"topic": str(n)} for n in range(8)])
    make_run(tmp_path, "b", [{"topic": str(n), "answer": "x"} for n in range(8)])
    printed = command("diff", "jokes/a", "jokes/b", "--root", tmp_path, "--top", 3)
    assert printed.out.count("  output") == 3 and "5 more differ" in printed.out


def test_hostile_and_huge_texts_are_compared(tmp_path: Path, command: Command) -> None:
    """Escapes are shown as text; of megabytes a beginning is compared, at once."""
    huge = "".join(f"line {n}\n" for n in range(200_000))
    make_run(tmp_path, "a", [{"answer": HOSTILE}, {"topic": "big", "answer": huge}])
    make_run(tmp_path, "b", [{"answer": HOSTILE * 2}, {"topic": "big", "answer": "x" + huge}])
    printed = command("diff", "jokes/a", "jokes/b", "--root", tmp_path)
    assert printed.code == 0 and not {"\x1b", "\u202e"} & set(printed.out)
    assert "- line 0" in printed.out and "+ xline 0" in printed.out
    assert len(printed.out) < 20_000


def test_traces_match_by_question_in_their_order() -> None:
    """Several to the same question pair up one by one; what is left over is alone."""

    def made(key: str, *ids: str) -> list[Fingerprint]:
        return [Fingerprint(("n", key.encode()), "w", one, b"", b"") for one in ids]

    found = match(made("x", "1", "2") + made("y", "3"), made("z", "4") + made("x", "5"))
    assert [(one.first.trace_id, one.second.trace_id) for one in found.pairs] == [("1", "5")]
    assert [one.trace_id for one in found.only_first] == ["2", "3"]
    assert [one.trace_id for one in found.only_second] == ["4"]


def test_ids_of_messages_and_usage_are_no_difference() -> None:
    """What differs from call to call is left out of the comparison; what was said is not."""

    def said(text: str, number: int) -> object:
        call = {"name": "f", "args": {"a": 1}, "id": f"call-{number}"}
        message = {"type": "ai", "content": text, "id": f"run-{number}", "tool_calls": [call],
                   "usage_metadata": {"input_tokens": number}}  # fmt: skip
        return {"generations": [[{"text": text, "message": message}]], "llm_output": {"n": number}}

    assert steady(said("a", 1)) == steady(said("a", 2))
    assert steady(said("a", 1)) != steady(said("b", 1))
    assert steady({"messages": ["id"], "id": 7}) == {"messages": ["id"], "id": 7}
