"""Plays the conversations, and tracks them as a user would."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from asynctrack import tracker
from tests.support.bot.agents import Bot, bot_of
from tests.support.bot.plan import (
    VERSIONS,
    Ask,
    Place,
    Script,
    Trouble,
    Version,
    scripts,
    troubles,
)
from tests.support.bot.truth import (
    Book,
    Conversation,
    Feedback,
    Outcome,
    Playing,
    RunTruth,
    Truth,
    Turn,
    now,
    type_name,
)

EXPERIMENT: Final = "support-bot"
SEED: Final = 13
CONCURRENCY: Final = 50
_SLOW: Final[tuple[Trouble, ...]] = ("slow tool", "slow model")


def play(folder: Path, *, scale: float = 1.0, seed: int = SEED, **options: Any) -> Truth:
    """Play all conversations, and track them into a folder; return the truth about them.

    Args:
        folder: Where to track to.
        scale: 1 is 500 conversations, 0.1 is 50.
        seed: What is drawn follows from it; times do not.
        **options: Further options of the tracker.
    """
    planned = scripts(scale, seed)
    older, newer = (
        asyncio.run(
            _play(folder, version, planned, troubles(version, planned, seed), seed, options)
        )
        for version in VERSIONS
    )
    return Truth((older, newer))


async def _play(
    folder: Path,
    version: Version,
    planned: Iterable[Script],
    trouble: dict[Place, Trouble],
    seed: int,
    options: dict[str, Any],
) -> RunTruth:
    book = Book()
    bot = bot_of(version, book)
    experiment, run = EXPERIMENT, version.run
    async with tracker(folder, experiment_name=experiment, run_name=run, **options) as handler:
        handler.log_parameters({"prompt": version.prompt, "temperature": 0.2})
        stage = _Stage(version, book, bot, handler, trouble, seed)
        room = asyncio.Semaphore(CONCURRENCY)

        async def one(script: Script) -> Conversation:
            async with room:
                return await stage.converse(script)

        # Last the one with the slow step, when it is known what slow is.
        ordered = sorted(planned, key=stage.is_slow)
        played = list(await asyncio.gather(*map(one, ordered[:-1])))
        played.append(await one(ordered[-1]))
        handler.log_metric(
            "answered", sum(turn.answer is not None for one in played for turn in one.turns)
        )
    assert stage.slowest is not None
    return book.closed(version.run, played, stage.slowest)


@dataclass
class _Stage:
    """Where the conversations of a Run are played."""

    version: Version
    book: Book
    bot: Bot
    handler: Any
    trouble: dict[Place, Trouble]
    seed: int
    longest: float = 0.0
    """Seconds of the longest turn so far."""
    slowest: tuple[str, str] | None = None

    def is_slow(self, script: Script) -> bool:
        """Return whether it is the one with the slow step."""
        places = ((script.number, turn) for turn in range(len(script.asks)))
        return any(self.trouble.get(place) in _SLOW for place in places)

    async def converse(self, script: Script) -> Conversation:
        """Play a conversation."""
        rng = random.Random(f"{self.seed}/{self.version.run}/{script.number}")
        name = f"{self.version.run[-2:]}-{script.number:04d}"
        talk = _Talk(script, f"{'thread' if script.kind == 'thread' else 'session'}-{name}")
        turns = []
        for number, ask in enumerate(script.asks):
            trace_id = uuid.UUID(int=rng.getrandbits(128), version=4)
            turns.append(await self._turn(talk, number, ask, trace_id))
            if rng.random() < 0.15:
                self._thumb(turns[-1])
        return Conversation(
            number=script.number,
            session_id=talk.session_id,
            thread_id=talk.session_id if script.kind == "thread" else None,
            user_id=script.user_id,
            kind=script.kind,
            turns=tuple(turns),
        )

    async def _turn(self, talk: _Talk, number: int, ask: Ask, trace_id: uuid.UUID) -> Turn:
        trouble = self.trouble.get((talk.script.number, number))
        playing = Playing(
            ask=ask,
            new=self.version.new,
            uses_tools=talk.script.is_agent,
            trouble=trouble,
            patience=max(0.5, 2 * self.longest),
        )
        inputs = talk.inputs(ask.text)
        playing.read(json.dumps(inputs))
        token = now.set(playing)
        began = time.time_ns()
        try:
            answer, outcome, error = await self._call(talk, inputs, trace_id, playing)
        finally:
            now.reset(token)
        ended = time.time_ns()
        self.longest = max(self.longest, (ended - began) / 1e9)
        if trouble in _SLOW:
            step = "lookup_order" if trouble == "slow tool" else "Nova"
            self.slowest = (str(trace_id), step)
        if answer is not None:
            talk.remember(ask.text, answer)
        return Turn(
            trace_id=str(trace_id),
            number=number,
            text=ask.text,
            answer=answer,
            outcome=outcome,
            error=error,
            recovered=playing.errors if outcome == "ok" else 0,
            usage=playing.usage,
            holds_phrase=playing.holds_phrase,
            began=began,
            ended=ended,
            first_text=playing.first_text,
        )

    async def _call(
        self, talk: _Talk, inputs: Any, trace_id: uuid.UUID, playing: Playing
    ) -> tuple[str | None, Outcome, str | None]:
        """Ask the bot, and leave before the answer where that is planned."""
        config = {"callbacks": [self.handler], "run_id": trace_id, "tags": ["prod"]}
        talk.name(config, self.handler)
        with talk.block(self.handler):
            asked = asyncio.ensure_future(self._answer(talk, inputs, config))
        left = asyncio.ensure_future(playing.reached.wait())
        await asyncio.wait({asked, left}, return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        if playing.reached.is_set():
            asked.cancel()
        try:
            return await asked, "ok", None
        except asyncio.CancelledError:
            if not playing.reached.is_set():
                raise
            return None, "cancelled", None
        except Exception as error:
            return None, "error", type_name(error)

    async def _answer(self, talk: _Talk, inputs: Any, config: dict[str, Any]) -> str:
        kind, bot = talk.script.kind, self.bot
        if not talk.script.is_agent:
            text = ""
            async for word in bot.chain.astream(inputs, config):
                now.get().hears(word)
                text += word
            return text
        graph = bot.remembering if kind == "thread" else bot.agent
        if talk.script.number % 3:
            state = await graph.ainvoke(inputs, config)
            return str(state["messages"][-1].text)
        words: dict[str, str] = {}
        async for piece, _ in graph.astream(inputs, config, stream_mode="messages"):
            if piece.type == "AIMessageChunk":
                now.get().hears(piece.text)
                words[piece.id] = words.get(piece.id, "") + piece.text
        return list(words.values())[-1]

    def _thumb(self, turn: Turn) -> None:
        comment = None if turn.answer is not None else "no answer"
        given = Feedback(turn.trace_id, "thumbs", int(turn.answer is not None), comment)
        if hasattr(self.handler, "log_feedback"):
            self.handler.log_feedback(given.trace_id, given.name, given.score, comment=comment)
            self.book.feedback.append(given)


@dataclass
class _Talk:
    """A conversation under way."""

    script: Script
    session_id: str
    history: list[dict[str, str]] = field(default_factory=list)

    def inputs(self, text: str) -> Any:
        """Return what the bot is called with."""
        said = {"role": "user", "content": text}
        if self.script.kind == "thread":
            return {"messages": [said]}
        if self.script.kind == "session":
            return {"messages": [*self.history, said]}
        return {"question": text, "history": list(self.history)}

    def remember(self, text: str, answer: str) -> None:
        """Note a turn that went well."""
        self.history += [
            {"role": "user", "content": text},
            {"role": "assistant", "content": answer},
        ]

    def name(self, config: dict[str, Any], handler: Any) -> None:
        """Say in a config whose conversation it is, as its kind does."""
        ids = {"session_id": self.session_id, "user_id": self.script.user_id}
        kind = self.script.kind
        if kind == "thread":
            config["configurable"] = {"thread_id": self.session_id}
            config["metadata"] = {"user_id": self.script.user_id}
        elif kind == "session" or not hasattr(handler, "session"):
            config["metadata"] = ids
        elif kind == "configurable":
            config["configurable"] = ids

    def block(self, handler: Any) -> AbstractContextManager[Any]:
        """Return the block that says it for all that is called in it."""
        if self.script.kind != "block" or not hasattr(handler, "session"):
            return nullcontext()
        block: AbstractContextManager[Any] = handler.session(
            session_id=self.session_id, user_id=self.script.user_id
        )
        return block
