"""The shop's side: the tools of the agent, the policies, and their errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool
from pydantic import PrivateAttr

from tests.support.bot.truth import Book, now

_POLICIES = (
    ("return", "Goods may be returned within 30 days of delivery, unused and in their box."),
    ("pays", "Returns are free of charge within the EU; a label is printed under Orders, Return."),
    ("guarantee", "Electric goods have a guarantee of two years, all others of one year."),
    ("country", "We deliver to all of Europe, in 3 to 7 working days, for 9 euros."),
    ("shop", "What was bought in a shop is taken back by any shop, with the receipt, for 14 days."),
    ("instalments", "Orders of 100 euros and more may be paid in 3, 6 or 12 months, free."),
    ("broken", "Goods that arrive broken are replaced or refunded, as the customer prefers."),
)  # fmt: skip


class OrderNotFound(LookupError):
    """There is no such order."""

    __module__ = "shop"


class RateLimitError(RuntimeError):
    """The shop is asked too often."""

    __module__ = "shop"


HANDLED = (OrderNotFound, TimeoutError)
"""What the agent is told of, in place of the tool's answer."""


class PolicyRetriever(BaseRetriever):
    """Finds policies by their words."""

    _book: Book = PrivateAttr()

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book = book

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        raise NotImplementedError("the bot is asynchronous")

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        with self._book.call("retriever", "PolicyRetriever"):
            await asyncio.sleep(0.002)
            if now.get().strikes("retriever"):
                raise ConnectionError("the index of policies does not answer")
            words = query.lower()
            ranked = sorted(_POLICIES, key=lambda policy: policy[0] not in words)
            return [
                Document(text, metadata={"source": f"policies/{name}.md", "rank": rank})
                for rank, (name, text) in enumerate(ranked[:2])
            ]


def tools_of(book: Book, retriever: PolicyRetriever) -> list[BaseTool]:
    """Return the agent's tools."""

    @tool
    async def lookup_order(order: str) -> str:
        """Look up an order by its number."""
        with book.call("tool", "lookup_order"):
            playing = now.get()
            await asyncio.sleep(0.003)
            if playing.strikes("slow tool"):
                await asyncio.sleep(playing.patience)
            if playing.strikes("OrderNotFound"):
                raise OrderNotFound(f"no order {order} in the shop")
            if playing.strikes("TimeoutError"):
                raise TimeoutError(f"the warehouse timed out on {order}")
            if playing.strikes("RateLimitError"):
                raise RateLimitError("429 from the shop: 100 requests a minute")
            return json.dumps({"order": order, "state": "shipped", "carrier": "Postbote"})

    @tool
    async def refund_order(order: str, reason: str) -> str:
        """Give the money of an order back."""
        with book.call("tool", "refund_order"):
            await asyncio.sleep(0.004)
            return json.dumps({"order": order, "refunded": True, "reason": reason})

    @tool
    async def search_policy(question: str, config: RunnableConfig) -> str:
        """Search the shop's policies for a rule."""
        with book.call("tool", "search_policy"):
            return said(await retriever.ainvoke(question, config))

    tools: list[Any] = [lookup_order, refund_order, search_policy]
    return tools


def said(documents: list[Document]) -> str:
    """Return documents as a prompt holds them."""
    return "\n".join(document.page_content for document in documents)
