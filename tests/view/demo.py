"""A made-up experiment to look at: a support bot, four Runs of it, some hundred questions each.

The events are written from the public contract, with times of their own, so that it looks the same
every time and takes no longer than writing it.
"""

# ruff: noqa: E501  # what is logged is long, and stands as it is logged

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reading.making import RunFolder

EXPERIMENT = "support-bot"
START = 1_794_988_800 * 10**9  # 2026-11-18T08:00:00Z
PRICES = {"gpt-4o-mini": [0.15, 0.6], "gpt-4o": [2.5, 10.0], "claude-sonnet-4": [3.0, 15.0]}
MS = 10**6

_QUESTIONS = (
    ("How do I reset my password?", "Open **Settings → Security** and choose *Reset password*. You get a link by mail; it is valid for 30 minutes."),
    ("Why was I charged twice this month?", "I see two charges of €19.00 on 3 November. The second one is a pending authorisation: your bank releases it within 5 working days."),
    ("Can I export my data as CSV?", "Yes:\n\n1. Open **Reports**\n2. Choose a range\n3. Press *Export → CSV*\n\nLarge exports arrive by mail."),
    ("Does the API support webhooks?", "Yes. Register an endpoint with `POST /v2/webhooks`:\n\n```json\n{\"url\": \"https://example.com/hook\", \"events\": [\"order.paid\"]}\n```"),
    ("My parcel has not arrived, where is it?", "Your parcel left the depot in Lyon this morning and is due tomorrow before noon."),
    ("How do I invite a colleague?", "Under **Team → Members** press *Invite*, enter the address and choose a role. The invitation is valid for 7 days."),
    ("Is there a student discount?", "Students get 40 % off every yearly plan. Verify your status under **Billing → Discounts**."),
    ("Can you cancel my subscription?", "I have cancelled it: your plan runs until 30 November, and nothing is charged after that."),
    ("Which regions do you host in?", "Frankfurt, Dublin, Oregon and Singapore. Choose one when you make a workspace; it cannot be changed later."),
    ("Why is the sync so slow today?", "There is an incident: syncing is delayed by about 20 minutes for accounts in Dublin. The status page has the details."),
)  # fmt: skip
_DOCUMENTS = (
    "Passwords are reset under Settings, Security. The link is valid for 30 minutes.",
    "A card may show an authorisation beside the charge; banks release it in up to 5 working days.",
    "Reports can be exported as CSV, JSON and Parquet. Exports above 100,000 rows are mailed.",
    "Webhooks: POST /v2/webhooks with url and events. Deliveries are retried for 24 hours.",
)
_TRACEBACK = """\
  File "/srv/bot/.venv/lib/python3.12/site-packages/langchain_openai/chat_models/base.py", line 1532, in BaseChatOpenAI._agenerate
  File "/srv/bot/.venv/lib/python3.12/site-packages/openai/resources/chat/completions/completions.py", line 2603, in AsyncCompletions.create
  File "/srv/bot/.venv/lib/python3.12/site-packages/openai/_base_client.py", line 1794, in AsyncAPIClient.post
  File "/srv/bot/.venv/lib/python3.12/site-packages/openai/_base_client.py", line 1594, in AsyncAPIClient.request"""


@dataclass(frozen=True)
class Version:
    """One Run: what it is called, and how it behaves."""

    run: str
    model: str
    temperature: float
    prompt: str
    pace: float
    failing: float
    hours: int
    traces: int = 220


VERSIONS = (
    Version("v1-baseline", "gpt-4o-mini", 0.2, "support@3", 1.0, 0.012, 0),
    Version("v2-short-prompt", "gpt-4o-mini", 0.2, "support@4", 0.78, 0.009, 22),
    Version("v3-gpt-4o", "gpt-4o", 0.2, "support@4", 1.45, 0.031, 46),
    Version("v4-tools", "claude-sonnet-4", 0.0, "support@5", 1.2, 0.018, 70),
)


@dataclass
class Writer:
    """Collects the events of one writer, to be put in order by their times."""

    writer: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def add(self, at: int, event: str, **fields: Any) -> None:
        """Add an event."""
        self.events.append({"time_unix_nano": at, "event": event, **fields})

    def numbered(self) -> Iterator[dict[str, Any]]:
        """Yield the events in order, with what every event has."""
        self.events.sort(key=lambda one: one["time_unix_nano"])
        for seq, one in enumerate(self.events, 1):
            yield {"v": 1, "writer_id": self.writer, "seq": seq, **one}


class Conversation:
    """One trace: a question, answered with documents, tools and a model."""

    def __init__(self, writer: Writer, version: Version, number: int, at: int) -> None:
        self.random = random.Random(f"{version.run}/{number}")
        self.writer = writer
        self.version = version
        self.number = number
        self.began = self.at = at
        self.root = self.identity()
        self.question, self.answer = _QUESTIONS[number % len(_QUESTIONS)]
        if version.prompt == "support@4" and ". " in self.answer:
            self.answer = self.answer.partition(". ")[0] + "."

    def identity(self) -> str:
        """A new id, the same each time the demo is made."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def wait(self, typical: float) -> int:
        """Go on in time: a span that usually takes so many milliseconds. Returns its end."""
        took = typical * self.version.pace * self.random.lognormvariate(0, 0.42)
        self.at += max(1, int(took * MS))
        return self.at

    def span(
        self, kind: str, name: str, parent: str | None, **start: Any
    ) -> tuple[str, dict[str, Any]]:
        """Begin a span; returns its id and the fields that its end shares."""
        identity = self.identity() if parent else self.root
        shared = {"span_id": identity, "trace_id": self.root}
        if parent:
            shared["parent_span_id"] = parent
        self.writer.add(self.at, f"{kind}_start", **shared, name=name, **start)
        return identity, shared

    def model(
        self,
        parent: str,
        messages: list[dict[str, Any]],
        answer: str,
        calls: list[dict[str, Any]],
        step: int,
    ) -> bool:
        """A model call; returns whether it went well."""
        version, rng = self.version, self.random
        provider = "anthropic" if version.model.startswith("claude") else "openai"
        name = "ChatAnthropic" if provider == "anthropic" else "ChatOpenAI"
        began = self.at
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": version.model,
            "gen_ai.request.temperature": version.temperature,
        }
        _, shared = self.span(
            "chat_model", name, parent, tags=[f"seq:step:{step}"], inputs={"messages": [messages]},
            metadata={"ls_provider": provider, "session_id": f"chat-{self.number // 3:04d}"}, attributes=attributes,
            data={"invocation_params": {"model": version.model, "temperature": version.temperature}},
        )  # fmt: skip
        if rng.random() < version.failing:
            self.wait(240)
            self.error("llm_error", shared)
            return False
        words = answer.split(" ")
        read, written = 280 + 12 * rng.randrange(20), max(12, int(len(words) * 1.4))
        first = 0.28 * version.pace * rng.lognormvariate(0, 0.35)
        gaps = [0.022 * version.pace * rng.lognormvariate(0, 0.7) for _ in range(written - 1)]
        self.at = began + int((first + sum(gaps)) * 1000 * MS) + MS
        message: dict[str, Any] = {"content": answer, "type": "ai"}
        if calls:
            message = {"content": "", "type": "ai", "tool_calls": calls}
        message["usage_metadata"] = {
            "input_tokens": read,
            "output_tokens": written,
            "total_tokens": read + written,
        }
        data: dict[str, Any] = {}
        if not calls:
            since_root = (began - self.began) / 1e9 + first
            data = {"data": {"stream": {
                "text": answer, "count": written, "time_to_first_token": round(first, 6),
                "trace_time_to_first_token": round(since_root, 6),
                "inter_token_times": [round(gap, 6) for gap in gaps],
            }}}  # fmt: skip
        self.writer.add(
            self.at, "llm_end", **shared, **data,
            outputs={"generations": [[{"text": message["content"], "type": "ChatGeneration", "message": message}]], "type": "LLMResult"},
            attributes={"gen_ai.response.model": version.model, "gen_ai.usage.input_tokens": read, "gen_ai.usage.output_tokens": written,
                        "gen_ai.usage.cache_read.input_tokens": read // 256 * 256, "gen_ai.usage.reasoning.output_tokens": written // 4,
                        "gen_ai.response.finish_reasons": ["tool_calls" if calls else "stop"]},
        )  # fmt: skip
        return True

    def error(self, event: str, shared: Mapping[str, Any]) -> None:
        """End a span with an error."""
        error = {
            "type": "openai.RateLimitError",
            "message": f"Error code: 429 - Rate limit reached for {self.version.model}: limit 200000 tokens a minute. Try again in 1.3 s.",
            "traceback": _TRACEBACK,
            "causes": [{"type": "httpx.HTTPStatusError", "message": "Client error '429 Too Many Requests' for url 'https://api.openai.com/v1/chat/completions'", "traceback": '  File "/srv/bot/.venv/lib/python3.12/site-packages/httpx/_models.py", line 829, in Response.raise_for_status'}],
        }  # fmt: skip
        self.writer.add(self.at, event, **shared, error=error)

    def run(self) -> None:
        """Write the whole conversation."""
        version, question = self.version, self.question
        tags = ["prod", "eu" if self.number % 3 else "us"]
        _, root = self.span(
            "chain", "answer_question", None, tags=tags, inputs={"question": question},
            metadata={"session_id": f"chat-{self.number // 3:04d}", "user_id": f"u-{self.number // 3 % 37:03d}"},
        )  # fmt: skip
        self.at += 2 * MS
        _, found = self.span(
            "retriever", "HelpCentre", self.root, tags=["seq:step:1"], inputs={"query": question}
        )
        self.wait(95)
        documents = [
            {
                "page_content": text,
                "metadata": {"source": f"help/{n + 1}.md", "score": round(0.93 - 0.11 * n, 2)},
            }
            for n, text in enumerate(_DOCUMENTS[self.number % 2 : self.number % 2 + 2])
        ]
        self.writer.add(self.at, "retriever_end", **found, outputs={"documents": documents})
        self.at += MS
        context = "\n".join(one["page_content"] for one in documents)
        _, prompt = self.span(
            "chain",
            "ChatPromptTemplate",
            self.root,
            tags=["seq:step:2"],
            inputs={"question": question, "context": context},
            data={"run_type": "prompt"},
        )
        messages = [
            {
                "content": f"You are the support bot of Acme. Be brief, and say so when you do not know.\n\nWhat may help:\n{context}",
                "type": "system",
            },
            {"content": question, "type": "human"},
        ]
        self.at += MS
        self.writer.add(self.at, "chain_end", **prompt, outputs={"messages": messages})
        self.at += MS
        agent, shared = self.span(
            "chain", "agent", self.root, tags=["seq:step:3"], inputs={"messages": messages}
        )
        self.at += MS
        uses_tools = version.run == "v4-tools" or self.number % 4 == 1
        fine = True
        if uses_tools:
            call = {
                "name": "look_up_order",
                "args": {"customer": f"u-{self.number % 37:03d}", "last": 3},
                "id": f"call_{self.number:04d}",
                "type": "tool_call",
            }
            fine = self.model(agent, messages, "let me look that up for you", [call], 1)
            if fine:
                self.at += MS
                _, tool = self.span(
                    "tool",
                    "look_up_order",
                    agent,
                    tags=["seq:step:2"],
                    inputs=call["args"],
                    data={"input_str": str(call["args"])},
                )
                self.wait(180)
                result = {
                    "content": '[{"order": 8812, "state": "shipped", "eta": "2026-11-21"}]',
                    "type": "tool",
                    "name": "look_up_order",
                    "tool_call_id": call["id"],
                    "status": "success",
                }
                self.writer.add(self.at, "tool_end", **tool, outputs=result)
                self.at += MS
                messages = [*messages, {"content": "", "type": "ai", "tool_calls": [call]}, result]
        if fine:
            fine = self.model(agent, messages, self.answer, [], 3)
        self.at += MS
        if not fine:
            self.error("chain_error", shared)
            self.at += MS
            self.error("chain_error", root)
            return
        message = {"content": self.answer, "type": "ai"}
        self.writer.add(self.at, "chain_end", **shared, outputs={"messages": [*messages, message]})
        _, parser = self.span(
            "chain",
            "StrOutputParser",
            self.root,
            tags=["seq:step:4"],
            inputs=message,
            data={"run_type": "parser"},
        )
        self.at += MS
        self.writer.add(self.at, "chain_end", **parser, outputs=self.answer)
        self.writer.add(self.at + MS, "chain_end", **root, outputs=self.answer)


def make(root: Path, versions: tuple[Version, ...] = VERSIONS) -> None:
    """Write the experiment into a folder."""
    for number, version in enumerate(versions):
        writer = Writer(f"{number + 1:02d}" + "c" * 22)
        rng = random.Random(version.run)
        at = START + version.hours * 3600 * 10**9
        for trace in range(version.traces):
            at += int(rng.expovariate(1 / 9.0) * 10**9)
            Conversation(writer, version, trace, at).run()
        events = list(writer.numbered())
        folder = RunFolder(root, EXPERIMENT, version.run)
        day = "2026-11-18"
        for first in range(0, len(events), 2_000):
            folder.artifact(events[first : first + 2_000], writer=writer.writer, day=day)
        score = 0.71 + 0.06 * number
        folder.manifest(
            writer.writer,
            created_unix_nano=events[0]["time_unix_nano"],
            updated_unix_nano=events[-1]["time_unix_nano"],
            parameters={
                "gen_ai.request.model": version.model,
                "gen_ai.request.temperature": version.temperature,
                "prompt": version.prompt,
                "retriever.k": 2,
                "dataset": "tickets-2026-10",
                "git.commit": f"{rng.getrandbits(28):07x}",
            },
            metrics={"helpful": {"count": 200, "sum": 200 * score, "min": 0, "max": 1, "last": round(score, 3)}},
        )  # fmt: skip


if __name__ == "__main__":
    import sys

    make(Path(sys.argv[1]))
