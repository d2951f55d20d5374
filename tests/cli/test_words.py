"""What commands say of what was logged: names in lists, messages as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asynctrack.cli import _words as words
from tests.cli.conftest import Command
from tests.reading import pictures
from tests.reading.making import START, RunFolder, event

pytestmark = pytest.mark.may_block("no event loop in here")

LONG = "name\n" + "x" * 100_000


def run_with_names(root: Path, run: str, answer: str) -> None:
    """A Run in which everything that has a name has a huge one."""
    ids = {"trace_id": "t"}
    asked = {"type": "human", "name": LONG, "content": "hi"}
    said = {"type": "ai", "content": answer}
    error = {"type": "ValueError", "message": "wrong"}
    folder = RunFolder(root, run=run)
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="t", name=LONG, tags=[LONG], **ids),
            event(2, kind="chat_model_start", span_id="m", parent_span_id="t", name=LONG,
                  inputs={"messages": [[asked]]}, attributes={"gen_ai.request.model": LONG}, **ids),
            event(3, kind="llm_end", span_id="m", parent_span_id="t",
                  outputs={"generations": [[{"text": answer, "message": said}]]}, **ids),
            event(4, kind="tool_start", span_id="u", parent_span_id="t", name=LONG, **ids),
            event(5, kind="tool_error", span_id="u", parent_span_id="t", error=error, **ids),
            event(6, kind="chain_error", span_id="t", error=error, time=START + 10**9, **ids),
            event(7, kind="chain_start", span_id="v", trace_id="v", name=LONG,
                  data={"run_type": LONG}),
        ]
    )  # fmt: skip
    folder.manifest(
        parameters={LONG: run},
        metrics={LONG: {"count": 1, "sum": 1, "min": 1, "max": 1, "last": 1}},
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls",),
        ("show", "--top", "2"),
        ("trace", "t"),
        ("trace", "v"),
        ("tail", "-n", "all", "--until-closed"),
        ("tail", "-n", "all", "--until-closed", "--spans"),
        ("diff", "jokes/b"),
    ],
    ids=" ".join,
)
def test_a_huge_name_is_cut_in_every_list(
    tmp_path: Path, command: Command, arguments: tuple[str, ...]
) -> None:
    """A name of 100 KB takes no more room than others, and no second line; JSON has it whole."""
    run_with_names(tmp_path, "a", "one")
    run_with_names(tmp_path, "b", "other")
    name, *more = arguments
    place: Any = "jokes" if name == "ls" else "jokes/a"
    printed = command(name, place, *more, "--root", tmp_path, "--no-spool")
    assert printed.code == 0 and printed.err == ""
    assert len(printed.out) < 10_000
    assert not any(line.startswith("x") for line in printed.out.splitlines())
    if name in ("show", "trace"):
        whole = command(name, place, *more, "--root", tmp_path, "--no-spool", "--json").out
        assert LONG[5:] in whole


def run_with_images(root: Path, run: str, *images: Any, answer: Any = "A cat.") -> None:
    """A Run with one call of a model, which is asked about images."""
    ids = {"trace_id": "t"}
    asked = {"type": "human", "content": [{"type": "text", "text": "What is it?"}, *images]}
    said = {"type": "ai", "content": answer}
    folder = RunFolder(root, run=run)
    folder.artifact(
        [
            event(1, kind="chain_start", span_id="t", name="look", inputs="What is it?", **ids),
            event(2, kind="chat_model_start", span_id="m", parent_span_id="t", name="Model",
                  inputs={"messages": [[asked]]}, **ids),
            event(3, kind="llm_end", span_id="m", parent_span_id="t",
                  outputs={"generations": [[{"text": "", "message": said}]]}, **ids),
            event(4, kind="chain_end", span_id="t", outputs={"deep": [answer, images]}, **ids),
        ]
    )  # fmt: skip
    folder.manifest()


@pytest.mark.parametrize("shape", pictures.IMAGES.values(), ids=pictures.IMAGES)
def test_an_image_is_said(shape: Any) -> None:
    """An image of any shape stands beside the question in a few words, never as base64."""
    asked = {"type": "human", "content": [{"type": "text", "text": "What is it?"}, shape]}
    for value in (asked, [[asked]], {"messages": [asked]}):
        assert words.said(value) == f"What is it?\n{pictures.WORDS}"
    assert words.said({"type": "ai", "content": [shape]}) == pictures.WORDS
    for value in ({"a": {"b": shape}, "c": 1}, [shape, 7], [[[shape]], "x"]):
        assert pictures.WORDS in words.said(value) and len(words.said(value)) < 200
    assert pictures.WORDS in words.said({"type": "ai", "content": "", "tool_calls": [{
        "name": "f", "args": {"picture": shape}}]})  # fmt: skip


@pytest.mark.parametrize("arguments", [
    ("trace", "t"),
    ("trace", "t", "--full"),
    ("tail", "-n", "all", "--until-closed"),
    ("tail", "-n", "all", "--until-closed", "--spans"),
], ids=" ".join)  # fmt: skip
def test_images_in_commands(tmp_path: Path, command: Command, arguments: tuple[str, ...]) -> None:
    """Commands say what an image is; their JSON has all of it."""
    shapes = (pictures.IMAGES["openai"], pictures.OTHERS["openai audio"][0])
    run_with_images(tmp_path, "a", *shapes, answer=[pictures.IMAGES["langchain 1"]])
    name, *more = arguments
    out = command(name, "jokes/a", *more, "--root", tmp_path, "--no-spool").out
    assert "--spans" in more or f"audio, {len(pictures.WAV)} B, wav" in out
    assert pictures.WORDS in out and pictures.encoded(pictures.PNG)[:40] not in out
    whole = command(name, "jokes/a", *more, "--root", tmp_path, "--no-spool", "--json").out
    assert pictures.encoded(pictures.PNG) in whole


def test_other_images_are_a_difference(tmp_path: Path, command: Command) -> None:
    """Two images of the same size and type are told apart, in an answer and in a question."""
    red, blue = pictures.PNG, pictures.png(colour=(40, 40, 200))
    assert len(red) == len(blue)
    for run, content in (("a", red), ("b", blue), ("c", red)):
        run_with_images(tmp_path, run, {"type": "image", "base64": pictures.encoded(content)})
    printed = command("diff", "jokes/a", "jokes/b", "--root", tmp_path, "--exit-code")
    assert printed.code == 1 and "same questions: 1 of 1 changed" in printed.out
    lines = [one.strip() for one in printed.out.splitlines() if f"{pictures.WORDS}, SHA" in one]
    assert [line[0] for line in lines] == ["-", "+"] and len({line[1:] for line in lines}) == 2
    assert pictures.encoded(red)[:40] not in printed.out
    document = command("diff", "jokes/a", "jokes/b", "--root", tmp_path, "--json").document
    (texts,) = document["different"][0]["texts"]
    assert pictures.WORDS in texts["first"] and texts["first"] != texts["second"]
    same = command("diff", "jokes/a", "jokes/c", "--root", tmp_path, "--exit-code")
    assert same.code == 0
