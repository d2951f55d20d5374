"""What somebody may have meant by a name that nobody knows."""

from __future__ import annotations

from asynctrack._common.nearest import did_you_mean, nearest


def test_a_misspelt_name_finds_the_one_that_was_meant() -> None:
    """In any case; the likeliest first; nothing where nothing is near."""
    known = ("llm_start", "llm_end", "tool_end", "Retriever")
    assert nearest("llm_ned", known) == ("llm_end",)
    assert nearest("RETREIVER", known) == ("Retriever",)
    assert nearest("llm_", known, 2) == ("llm_end", "llm_start")
    assert nearest("nothing like it", known) == nearest("", known) == ()


def test_a_part_of_a_name_finds_it() -> None:
    """However long the rest is; the shortest first."""
    known = ("conversation-of-monday-4711-with-support", "of-monday-47", "other")
    assert nearest("monday", known, 2) == ("of-monday-47", known[0])


def test_long_names_take_no_time() -> None:
    """A name of a megabyte, among thousands of others."""
    assert nearest("a" * 10**6, [*("b" * 10**5 for _ in range(50)), "a" * 300]) == ("a" * 300,)


def test_the_question_escapes_what_a_terminal_would_obey() -> None:
    """Known names are whatever somebody called a Run."""
    assert did_you_mean("run-1", ["run-\x1b1"]) == "did you mean 'run-\\x1b1'? "
    assert did_you_mean("run-1", []) == ""
