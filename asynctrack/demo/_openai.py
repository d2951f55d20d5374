"""A local server that speaks OpenAI's HTTP interface and answers from a script.

    with local_openai() as server:
        ChatOpenAI(base_url=server.base_url, api_key=server.api_key)

It serves chat completions and completions, plain and streamed, tool calls, token usage and the
list of models, in a process of its own on 127.0.0.1. No model runs and nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ._openai_script import Answer, answer_chat, answer_text, count_tokens, text_of
from ._process import announce, end_with_parent, ignore_interrupts, server_process

#: Bytes of the largest request that is read; prompts of some megabytes occur in tests.
_MAX_BODY = 64 * 1024 * 1024
_MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-3.5-turbo-instruct")


@dataclass(frozen=True)
class LocalOpenAI:
    """A running scripted server.

    Attributes:
        base_url: What OpenAI's clients call the base URL; ends with ``/v1``.
        api_key: Any key is accepted; this one says what it is.
    """

    base_url: str
    api_key: str = "local-demo-key"

    def environment(self) -> dict[str, str]:
        """Environment variables that point any program's OpenAI clients here."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": self.api_key}


@contextmanager
def local_openai(*, latency: float = 0.0) -> Iterator[LocalOpenAI]:
    """Start a scripted server and stop it when the block is left.

    Args:
        latency: Seconds the server waits before each answer.

    Raises:
        ServerNotStarted: Its process did not come up.
    """
    arguments = ["--port", "0", "--latency", str(latency)]
    with server_process("asynctrack.demo._openai", arguments) as announced:
        yield LocalOpenAI(announced["base_url"])


class _Server:
    """The routes. `web` is aiohttp.web, imported only in the server's own process."""

    def __init__(self, web: Any, latency: float) -> None:
        self._web = web
        self._latency = latency

    def application(self) -> Any:
        web = self._web
        application = web.Application(client_max_size=_MAX_BODY)
        application.add_routes(
            [
                web.get("/v1/models", self.models),
                web.post("/v1/chat/completions", self.chat),
                web.post("/v1/completions", self.completions),
            ]
        )
        return application

    async def models(self, request: Any) -> Any:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in _MODELS
        ]
        return self._web.json_response({"object": "list", "data": data})

    async def chat(self, request: Any) -> Any:
        body = await self._body(request)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            return self._refuse("'messages' must be a list with at least one message.")
        answer = answer_chat(messages, body.get("tools") or [])
        usage = _usage((text_of(message) for message in messages), [answer])
        head = _head("chatcmpl", "chat.completion", body)
        await asyncio.sleep(self._latency)
        if body.get("stream"):
            return await self._stream(request, body, _chat_deltas(answer), usage, head)
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.tool_calls:
            message["content"] = None
            message["tool_calls"] = _calls(answer)
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        return self._web.json_response({**head, "choices": [choice], "usage": usage})

    async def completions(self, request: Any) -> Any:
        body = await self._body(request)
        prompt = body.get("prompt")
        given = prompt if isinstance(prompt, list) else [prompt]
        prompts = [one for one in given if isinstance(one, str)]
        if not prompts or len(prompts) != len(given):
            return self._refuse("'prompt' must be a string or a list of strings.")
        answers = [Answer(answer_text(one)) for one in prompts]
        usage = _usage(prompts, answers)
        head = _head("cmpl", "text_completion", body)
        await asyncio.sleep(self._latency)
        if body.get("stream"):
            deltas = [
                {"index": index, "text": piece, "finish_reason": None}
                for index, answer in enumerate(answers)
                for piece in _pieces(answer.text)
            ]
            deltas += [
                {"index": index, "text": "", "finish_reason": "stop"}
                for index in range(len(answers))
            ]
            return await self._stream(request, body, deltas, usage, head)
        choices = [
            {"index": index, "text": answer.text, "finish_reason": "stop", "logprobs": None}
            for index, answer in enumerate(answers)
        ]
        return self._web.json_response({**head, "choices": choices, "usage": usage})

    async def _stream(
        self,
        request: Any,
        body: dict[str, Any],
        choices: list[dict[str, Any]],
        usage: dict[str, int],
        head: dict[str, Any],
    ) -> Any:
        if head["object"] == "chat.completion":
            head = {**head, "object": "chat.completion.chunk"}
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        response = self._web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunks = [{**head, "choices": [choice]} for choice in choices]
        if with_usage:
            # OpenAI's form: the usage comes in a last chunk that has no choices.
            chunks = [{**chunk, "usage": None} for chunk in chunks]
            chunks.append({**head, "choices": [], "usage": usage})
        for chunk in chunks:
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _body(self, request: Any) -> dict[str, Any]:
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        return body if isinstance(body, dict) else {}

    def _refuse(self, message: str) -> Any:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return self._web.json_response({"error": error}, status=400)


def _head(prefix: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{time.time_ns():x}",
        "object": kind,
        "created": int(time.time()),
        "model": str(body.get("model") or _MODELS[0]),
    }


def _usage(prompts: Any, answers: list[Answer]) -> dict[str, int]:
    spoken = [text for a in answers for text in (a.text, *(c.arguments for c in a.tool_calls))]
    before, after = count_tokens(prompts), count_tokens(spoken)
    return {"prompt_tokens": before, "completion_tokens": after, "total_tokens": before + after}


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in answer.tool_calls
    ]


def _chat_deltas(answer: Answer) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for index, call in enumerate(_calls(answer)):
        arguments = call["function"]["arguments"]
        call["function"]["arguments"] = ""
        deltas.append({"tool_calls": [{"index": index, **call}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in _pieces(arguments)
        ]
    deltas += [{"content": piece} for piece in _pieces(answer.text)]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    return [*choices, {"index": 0, "delta": {}, "finish_reason": answer.finish_reason}]


def _pieces(text: str) -> list[str]:
    """Cut a text as a model's tokens do: each word with the space before it."""
    return re.findall(r"\s*\S+|\s+", text)


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input is closed; print one line of JSON when ready."""
    ignore_interrupts()
    parser = argparse.ArgumentParser(prog="python -m asynctrack.demo._openai", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    options = parser.parse_args(arguments)
    end_with_parent()
    asyncio.run(_serve(options.port, options.latency))


async def _serve(port: int, latency: float) -> None:
    from aiohttp import web

    runner = web.AppRunner(_Server(web, latency).application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    _, taken = runner.addresses[0][:2]
    announce({"base_url": f"http://127.0.0.1:{taken}/v1"})
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
