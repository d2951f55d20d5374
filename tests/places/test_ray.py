"""Ray: trackers that are opened in tasks and actors, on its workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.guide.pages import block
from tests.support.trees import counted

BEFORE = """
import os, ray
from langchain_core.runnables import RunnableLambda
chain = RunnableLambda(str.upper).with_config(run_name="shout") | RunnableLambda(str.lower)
"""
AFTER = """
if __name__ == "__main__":
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
        runtime_env={"env_vars": {"PYTHONPATH": os.getcwd()}},
    )
    assert ray.get([answer.remote(f"t{n}") for n in range(6)]) == [f"t{n}" for n in range(6)]
    actor = Answers.remote()
    assert ray.get([actor.ask.remote(f"a{n}") for n in range(6)]) == [f"a{n}" for n in range(6)]
    assert ray.get(actor.flush.remote())
    ray.kill(actor)
    ray.shutdown()
"""


def test_tasks_and_actors_track(tmp_path: Path) -> None:
    """As the guide says: all is there, though the actor's process is killed."""
    program = BEFORE + block("everywhere", "ray").replace('"runs"', repr(str(tmp_path / "runs")))
    (tmp_path / "program.py").write_text(program + AFTER)
    subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        cwd=Path(__file__).parents[2],
        check=True,
        # On a machine that does other things too, its parts take longer to find each other.
        env={
            **os.environ,
            "RAY_raylet_start_wait_time_s": "120",
            "RAY_agent_register_timeout_ms": "120000",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        timeout=250,
    )
    assert counted(tmp_path / "runs") == {"RunnableSequence(lower, shout)": 12}
