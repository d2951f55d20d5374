"""deepagents: plans, files and a subagent, under an installed tracker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from deepagents import create_deep_agent
from langchain_core.tools import tool

from asynctrack import tracker
from tests.everywhere.models import calling, scripted
from tests.support.trees import trees


@tool
async def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


@pytest.mark.may_block("deepagents reads what is installed")
@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="an async tool's context is lost to LangGraph itself"
)
async def test_a_deep_agent_and_its_subagent(tmp_path: Path) -> None:
    """One trace, whole; the subagent's models and tools are below the task that called it."""
    below = scripted(calling("weather", city="Rome"), "It is sunny in Rome.")
    above = scripted(
        calling("write_todos", todos=[{"content": "ask", "status": "in_progress"}]),
        calling("task", description="the weather in Rome", subagent_type="forecaster"),
        "Sunny.",
    )
    subagent: Any = {
        "name": "forecaster",
        "description": "Knows the weather.",
        "system_prompt": "Tell it.",
        "tools": [weather],
        "model": below,
    }
    agent = create_deep_agent(model=above, tools=[], subagents=[subagent], name="deep")
    async with tracker(tmp_path, install=True):
        await agent.ainvoke({"messages": [{"role": "user", "content": "How is Rome?"}]})
    (found,) = await asyncio.to_thread(trees, tmp_path)
    assert found.count("Scripted") == 5, found
    task = found[found.index("task(") :]
    assert "weather" in task and "weather" not in found[: found.index("task(")]
