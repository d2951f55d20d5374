"""A program that tracks by steps, says so, and waits to be killed: ``python -m tests.crash.stops``.

Its arguments: the folder to track into, the spool, and the steps. ``chains=N`` calls a model N
times, every fifth time in vain; ``flush`` has all delivered and listed in the manifest;
``delivered`` waits until all is delivered, while the manifest waits for its time.
"""

from __future__ import annotations

import signal
import sys
import time
from itertools import count
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda

from asynctrack import tracker


class Counting(BaseChatModel):
    """Answers with the tokens that its question names."""

    @property
    def _llm_type(self) -> str:
        return "counting"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        read, written = map(int, str(messages[0].content).split())
        message = AIMessage(
            "Ha",
            usage_metadata={
                "input_tokens": read, "output_tokens": written, "total_tokens": read + written,
                "input_token_details": {"cache_read": read // 2},
            },
        )  # fmt: skip
        return ChatResult(generations=[ChatGeneration(message=message)])


def fails(number: int) -> bool:
    """Whether this chain fails, after its model's answer."""
    return number % 5 == 0


def tokens(number: int) -> tuple[int, int]:
    """What the model of this chain reads and writes."""
    return 10 * number, number


def _judge(number: int) -> RunnableLambda[Any, Any]:
    def judge(answer: Any) -> Any:
        if fails(number):
            raise ValueError("not funny")
        return answer

    return RunnableLambda(judge)


def main(folder: str, spool: str, *steps: str) -> None:
    """Take the steps."""
    numbers = count(1)
    with tracker(folder, spool_dir=spool, run_name="one", max_delay=0.05) as handler:
        for step in steps:
            what, _, times = step.partition("=")
            for number in (next(numbers) for _ in range(int(times or 0))):
                question = "{} {}".format(*tokens(number))
                chain = RunnableLambda(lambda text: text) | Counting() | _judge(number)
                try:
                    chain.invoke(question, {"callbacks": [handler]})
                except ValueError:
                    assert fails(number)
            if what == "flush":
                assert handler.flush(60)
            while (
                what == "delivered" and handler.statistics().pending + handler.statistics().spooled
            ):
                time.sleep(0.01)
        while handler.statistics().pending:  # to disk, where the first file is late
            time.sleep(0.01)
        print("ready", flush=True)
        while True:
            signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
