"""What is said and what goes wrong, drawn by chance from a seed, before anything is played.

Both versions of the bot are asked the same by the same users (``Script``). What goes wrong where
(``Trouble``) differs between them.
"""

# ruff: noqa: E501  # what is said is long, and stands as it is said

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["thread", "session", "configurable", "block"]
"""How a conversation says whose it is. ``thread``: LangGraph's ``thread_id``, with a checkpointer.
``session``: ``session_id`` in the metadata. Both are agents. ``configurable``: only in the config
of a chain, which LangChain hands to no handler; ``block``: ``handler.session(...)`` around it."""
Trouble = Literal[
    "OrderNotFound",  # the agent says that it cannot find the order
    "TimeoutError",  # the agent tries again
    "RateLimitError",  # the trace fails
    "model",  # the model is overloaded: the trace fails
    "fallback",  # the small model is overloaded, the large one answers
    "retriever",  # the trace fails
    "cancel",  # the user closes the page while the model thinks
    "slow tool",
    "slow model",
]
Place = tuple[int, int]
"""A script's number, and the turn in it; both from 0."""

CONVERSATIONS: Final = 250
"""Of each version, at scale 1."""
USERS: Final = 60
PHRASE: Final = "purple stapler"
"""What few prompts hold."""
WRONG: Final = 0
"""The script of the conversation that goes wrong in the first version."""
_LENGTHS: Final = (4, 2, 5, 3, 6, 4, 3, 5, 2, 7, 4, 3, 1, 5, 4, 3, 6, 2, 4, 5, 3, 4, 8, 1, 4)
_KINDS: Final[tuple[Kind, ...]] = (
    "thread", "configurable", "session", "block", "thread", "configurable", "block", "session",
    "configurable", "block",
)  # fmt: skip
_LOOKUP_FAILURES: Final[tuple[Trouble, ...]] = (
    "OrderNotFound", "TimeoutError", "OrderNotFound", "RateLimitError", "OrderNotFound",
    "OrderNotFound", "TimeoutError", "RateLimitError", "OrderNotFound", "TimeoutError",
)  # fmt: skip
_RETRIED: Final = _LOOKUP_FAILURES.count("TimeoutError") / len(_LOOKUP_FAILURES)

_ITEMS: Final = ("a kettle", "two lamps", "a desk", "headphones", "a winter coat", "a bicycle bell")
_QUESTIONS: Final = (
    ("How long may I keep {item} before I send it back?", "You have 30 days from delivery, unused and in its box."),
    ("Who pays when I return {item}?", "We do, within the EU: print the label under *Orders → Return*."),
    ("Is there a guarantee on {item}?", "Two years on all electric goods, one year on everything else."),
    ("Can I have {item} sent to another country?", "To all of Europe, in 3 to 7 working days, for 9 euros."),
    ("Do you take back {item} that I bought in a shop?", "Any of our shops does, with the receipt, for 14 days."),
    ("Can I pay for {item} in instalments?", "From 100 euros on, in three, six or twelve months, at no interest."),
)  # fmt: skip


@dataclass(frozen=True)
class Version:
    """One Run: a version of the bot's prompt.

    Attributes:
        run: The Run's name.
        prompt: What the agents' models are told first.
        failing: The share of calls of ``lookup_order`` that fail.
        new: Whether it is the newer one: it says some things in other words, and has the small
            model choose the tools.
    """

    run: str
    prompt: str
    failing: float
    new: bool


VERSIONS: Final = (
    Version(
        "prompt-v1",
        "You are the support bot of Fernweh, a shop for household goods. Be friendly and complete."
        " Always greet the customer by what they asked for. Look orders up before you speak of"
        " them, and never guess a date. Where a rule applies, search the policies and quote the"
        " rule in full. Refund only what was delivered. If something cannot be found, say so, ask"
        " for the number again, and offer to pass the case on to a person. End by asking whether"
        " there is anything else.",
        0.134,
        False,
    ),
    Version(
        "prompt-v2",
        "You are the support bot of Fernweh. Look orders up before you speak of them; normalize"
        " order numbers first (capital letter, dash, five digits). Search the policies for rules."
        " Refund only what was delivered. Two sentences at the most.",
        0.057,
        True,
    ),
)


@dataclass(frozen=True)
class Ask:
    """A turn as it is planned.

    Attributes:
        text: What the user says.
        answer: What the bot says, when all goes well.
        shorter: What the newer version says in its place; None where it says the same.
        calls: The tools that an agent calls for it, in order, with their arguments.
        order: The order that it is about.
    """

    text: str
    answer: str
    shorter: str | None
    calls: tuple[tuple[str, Mapping[str, str]], ...] = ()
    order: str | None = None

    @property
    def looks_up(self) -> bool:
        """Whether an agent looks an order up for it."""
        return any(name == "lookup_order" for name, _ in self.calls)


@dataclass(frozen=True)
class Script:
    """A conversation as it is planned: what one user says."""

    number: int
    kind: Kind
    user_id: str
    asks: tuple[Ask, ...]

    @property
    def is_agent(self) -> bool:
        """Whether an agent answers, not a chain."""
        return self.kind in ("thread", "session")


def scripts(scale: float, seed: int) -> tuple[Script, ...]:
    """Return what is said in each conversation, in both versions."""
    count = max(10, round(CONVERSATIONS * scale))
    users = max(10, round(USERS * scale))
    return tuple(
        _script(number, users, random.Random(f"{seed}/{number}")) for number in range(count)
    )


def _script(number: int, users: int, rng: random.Random) -> Script:
    kind = _KINDS[number % len(_KINDS)]
    length = _LENGTHS[number % len(_LENGTHS)]
    asks = [_ask(number, turn, kind, length, rng) for turn in range(length)]
    if number % 60 in (2, 3):  # an agent's and a chain's
        phrase = PHRASE if number % 2 else PHRASE.title()
        asks[length // 2] = _question(
            f"Do you still sell the {phrase} of the catalogue?", "We do not.", None
        )
    return Script(number, kind, f"user-{rng.randrange(users):02d}", tuple(asks))


def _ask(number: int, turn: int, kind: Kind, length: int, rng: random.Random) -> Ask:
    if turn == length - 1 and length > 2 and rng.random() < 0.5:
        return Ask("Thanks, that is all.", "You are welcome!", None)
    agent = kind in ("thread", "session")
    if agent and (number == WRONG or rng.random() < 0.75):
        return _about_order(f"A-{10_000 + 10 * number + turn}", rng)
    text, answer = rng.choice(_QUESTIONS)
    text = f"{text.format(item=rng.choice(_ITEMS))} It is number {number}-{turn} on my list."
    return _question(text, answer, f"In short: {answer}" if rng.random() < 0.07 else None)


def _question(text: str, answer: str, shorter: str | None) -> Ask:
    return Ask(text, answer, shorter, (("search_policy", {"question": text}),))


def _about_order(order: str, rng: random.Random) -> Ask:
    looked_up = ("lookup_order", {"order": order})
    draw = rng.random()
    days = rng.randrange(2, 9)
    if draw < 0.6:
        answer = f"Order {order} is on its way and should be with you in {days} days."
        shorter = f"{order}: {days} days." if rng.random() < 0.07 else None
        return Ask(f"Where is my order {order}?", answer, shorter, (looked_up,), order)
    if draw < 0.85:
        refund = ("refund_order", {"order": order, "reason": "asked for"})
        answer = f"Order {order} is refunded; the money takes {days} days."
        text = f"I want my money back for order {order}."
        return Ask(text, answer, None, (looked_up, refund), order)
    text = f"Order {order} arrived broken. What can I do?"
    search = ("search_policy", {"question": text})
    answer = f"Send order {order} back within {days + 20} days, at our cost."
    return Ask(text, answer, None, (looked_up, search), order)


def troubles(version: Version, planned: Iterable[Script], seed: int) -> dict[Place, Trouble]:
    """Return what goes wrong where in a version.

    In no conversation but the one that goes wrong do two turns fail.
    """
    planned = list(planned)
    rng = random.Random(f"{seed}/{version.run}")
    found: dict[Place, Trouble] = {}
    failing: set[int] = set()
    agents = [one for one in planned if one.is_agent and one.number != WRONG]
    chains = [one for one in planned if not one.is_agent]
    if not version.new:
        found.update(
            {(WRONG, 0): "OrderNotFound", (WRONG, 1): "RateLimitError", (WRONG, 2): "model"}
        )
    lookups = _places(agents, looks_up=True)
    slow = rng.choice(lookups)
    found[slow] = "slow model" if version.new else "slow tool"
    failing.add(slow[0])
    lookups.remove(slow)
    every = (
        1
        + len(lookups)
        + sum(ask.looks_up for one in planned if one.number == WRONG for ask in one.asks)
    )
    wanted = round(version.failing * every / (1 - version.failing * _RETRIED))
    wanted -= sum(one in ("OrderNotFound", "RateLimitError") for one in found.values())
    for number, place in enumerate(rng.sample(lookups, wanted)):
        trouble = _LOOKUP_FAILURES[number % len(_LOOKUP_FAILURES)]
        if trouble == "RateLimitError":
            if place[0] in failing:
                trouble = "OrderNotFound"
            failing.add(place[0])
        found[place] = trouble

    def add(trouble: Trouble, among: list[Script], share: float, at_least: int) -> None:
        free = [one for one in _places(among) if one not in found and one[0] not in failing]
        rng.shuffle(free)
        for place in free[: max(at_least, round(share * len(free)))]:
            if place[0] not in failing:
                found[place] = trouble
                failing.add(place[0])

    add("model", agents, 0.012 if version.new else 0.02, 1)
    add("cancel", [*agents, *chains], 0.006, 2)
    add("retriever", chains, 0.01, 1)
    add("fallback", chains, 0.03, 1)
    return found


def _places(among: Iterable[Script], *, looks_up: bool = False) -> list[Place]:
    return [
        (one.number, turn)
        for one in among
        for turn, ask in enumerate(one.asks)
        if ask.calls and (ask.looks_up or not looks_up)
    ]
