"""``asynctrack dataset`` and MLflow's own datasets and evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from asynctrack import open_run, tracker
from asynctrack.cli import main
from tests.guide.pages import block
from tests.testing.scripted import Scripted, answer

pytestmark = [
    pytest.mark.may_block("no event loop in here"),
    # MLflow's own, and those of what it imports.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """MLflow with a database of this module's own: it makes one in many seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.chdir(folder)
        import mlflow

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        mlflow.set_experiment("jokes-of-datasets")
        yield mlflow
        mlflow.set_tracking_uri(before)


@pytest.fixture
def examples(tmp_path: Path) -> list[Any]:
    """The lines of ``asynctrack dataset``, of a chain with feedback and of its model's calls."""
    runs = str(tmp_path / "runs")
    chain = RunnableLambda(lambda given: given["topic"]) | Scripted(script=[answer("Blub.")])
    with tracker(runs) as handler:
        chain.invoke({"topic": "fish"}, {"callbacks": [handler]})
    run = open_run(runs)
    (trace,) = run.traces()
    run.log_feedback(trace.trace_id, "thumbs", True)
    lines: list[Any] = []
    for number, options in enumerate(([], ["--kind", "chat_model"])):
        path = tmp_path / f"{number}.jsonl"
        assert main(["dataset", runs, "--output", str(path), *options]) == 0
        lines += map(json.loads, path.read_text().splitlines())
    return lines


def test_mlflows_dataset_takes_the_lines(mlflow: Any, examples: list[Any]) -> None:
    """merge_records keeps inputs, outputs, expectations and the source; again it adds none."""
    from mlflow.genai.datasets import create_dataset

    dataset = create_dataset(name="jokes")
    for _ in range(2):
        dataset.merge_records([dict(one) for one in examples])
    records = dataset.to_df().to_dict("records")
    found = {json.dumps(one["inputs"]): one for one in records}
    assert len(found) == len(records) == len(examples) == 2
    for example in examples:
        record = found[json.dumps(example["inputs"])]
        assert record["outputs"] == example["outputs"]
        assert record["expectations"] == example["expectations"]
        source = record["source"]
        assert source.source_type == "TRACE"
        assert source.source_data["trace_id"] == example["metadata"]["trace_id"]
    expected = {"thumbs": 1.0, "expected_response": "Blub."}
    assert found['{"topic": "fish"}']["expectations"] == expected


def test_mlflow_evaluates_the_lines(mlflow: Any, examples: list[Any]) -> None:
    """The page's program: the dataset takes the lines, and evaluate scores the logged outputs with
    the expectations."""
    from mlflow.genai import scorer

    @scorer
    def same(outputs: Any, expectations: Any) -> bool:
        return bool(outputs["message"]["content"] == expectations["expected_response"])

    code = block("evaluation", "mlflow")
    assert code.count("[…]") == 1 and code.count("\nevaluate(") == 1
    code = code.replace("[…]", "[same]").replace("\nevaluate(", "\nresult = evaluate(")
    names: dict[str, Any] = {"examples": examples, "same": same}
    exec(code, names)
    assert names["result"].metrics["same/mean"] == 1.0
