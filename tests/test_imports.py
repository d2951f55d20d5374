"""``import asynctrack`` is light, and what it offers is there."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asynctrack

HEAVY = {
    "aioboto3", "aiobotocore", "aiohttp", "anyio", "asyncio", "boto3", "botocore", "duckdb",
    "flask", "langchain", "langchain_classic", "langchain_core", "langgraph", "langsmith", "moto",
    "numpy", "openai", "orjson", "pandas", "polars", "pyarrow", "pydantic", "pytest", "requests",
    "rich", "sagemaker", "zstandard",
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    """Return what a fresh interpreter has imported after some code."""
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(asynctrack.__file__).parents[1],
    ).stdout
    return set(json.loads(shown.splitlines()[-1]))


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_import_loads_nothing_heavy() -> None:
    """Importing the package loads none of the libraries it works with, asyncio included."""
    assert packages(modules_after("import asynctrack")) & HEAVY == set()


def test_import_loads_nothing_but_what_it_names() -> None:
    """Of our own modules only those are loaded that have nothing below them."""
    loaded = modules_after("import asynctrack")
    ours = {module for module in loaded if module.startswith("asynctrack.")}
    assert ours <= {
        "asynctrack._capture", "asynctrack._capture.sessions", "asynctrack._capture.unloaded",
        "asynctrack._common", "asynctrack._common.sessions", "asynctrack._errors",
        "asynctrack._statistics",
    }  # fmt: skip


def test_nothing_outside_the_standard_library_is_loaded() -> None:
    """Importing the package loads the standard library and nothing else."""
    plain = modules_after("")
    new = packages(modules_after("import asynctrack")) - packages(plain) - {"asynctrack"}
    assert {name for name in new if name not in sys.stdlib_module_names} == set()


@pytest.mark.parametrize(
    "forbidden", ["aioboto3", "aiobotocore", "boto3", "botocore", "sagemaker", "numpy", "pandas"]
)
def test_tracking_into_a_folder_needs_no_aws(forbidden: str, tmp_path: Path) -> None:
    """A whole tracked run into a folder loads neither AWS's libraries nor numpy."""
    code = f"""
import asynctrack
with asynctrack.tracker({str(tmp_path)!r}, spool_dir={str(tmp_path / "spool")!r}) as handler:
    handler.log_parameters({{"a": 1, "b": object()}})
    handler.log_metric("score", 0.5)
assert handler.statistics().delivered == 2
"""
    assert forbidden not in packages(modules_after(code))


FIRST_USE = """
import asyncio, re, sys, threading
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda
import asynctrack

here, imported, compiled = threading.get_ident(), [], []

class Watch:
    def find_spec(name, path=None, target=None):
        if threading.get_ident() == here and watching:
            imported.append(name)

def compile(pattern, flags=0, original=re.compile):
    if threading.get_ident() == here and watching and len(pattern) > 500:
        compiled.append(pattern)
    return original(pattern, flags)

async def use(callbacks):
    chain = PromptTemplate.from_template("{x}") | RunnableLambda(lambda value: value)
    await chain.ainvoke({"x": "API_KEY=hunter2"}, {"callbacks": callbacks})

async def main():
    global watching
    watching = False
    await use([])  # what LangChain itself imports when it is first used
    watching = True
    async with asynctrack.tracker(FOLDER, spool_dir=SPOOL) as handler:
        await use([handler])
        handler.log_parameters({"a": 1, "token": object()})
        handler.log_metric("score", 0.5)
        await handler.flush()
    watching = False
    assert handler.statistics().delivered == handler.statistics().accepted > 2

sys.meta_path.insert(0, Watch)
re.compile = compile
asyncio.run(main())
print(imported, compiled, sep=chr(10))
"""


def test_nothing_slow_is_imported_in_the_users_loop(tmp_path: Path) -> None:
    """From tracker(...) to leaving the block, the user's loop imports our light modules only."""
    code = FIRST_USE.replace("FOLDER", repr(str(tmp_path))).replace("SPOOL", repr(str(tmp_path)))
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    imported, compiled = shown.splitlines()
    assert set(ast.literal_eval(imported)) <= {
        "asynctrack._backends", "asynctrack._backends.library",
        "asynctrack._backends.mlflow", "asynctrack._backends.mlflow.address",
        "asynctrack._backends.run",
        "asynctrack._engine.destination", "asynctrack._engine.at_exit", "asynctrack._format",
        "asynctrack._common.importing", "asynctrack._common.notices", "asynctrack._options",
        "asynctrack._common.own", "asynctrack._common", "asynctrack._capture", "asynctrack._engine",
        "asynctrack._common.own_loop",
        "asynctrack._engine.prepare", "asynctrack._engine.progress", "asynctrack._engine.signals",
        "asynctrack._tracker",
        "asynctrack._common.turns",
    }  # fmt: skip
    assert compiled == "[]", "the rules of what is a secret are compiled in a thread"


def test_all_is_sorted_and_there() -> None:
    """Every name in ``__all__`` can be had, and they stand in order."""
    assert list(asynctrack.__all__) == sorted(asynctrack.__all__)
    assert len(set(asynctrack.__all__)) == len(asynctrack.__all__)
    for name in asynctrack.__all__:
        assert getattr(asynctrack, name) is not None


@pytest.mark.parametrize("name", asynctrack.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    """Every public name has a docstring of its own, and so have its public methods."""
    thing: Any = getattr(asynctrack, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing) and thing.__module__.startswith("asynctrack"):
        assert thing.__doc__
        for member_name, member in vars(thing).items():
            if not member_name.startswith("_") and callable(member):
                assert member.__doc__, f"{name}.{member_name}"


def test_nothing_else_is_invented() -> None:
    """A name that is not there is told as Python tells it."""
    with pytest.raises(AttributeError, match="'asynctrack' has no attribute 'nothing'"):
        _ = asynctrack.nothing


def test_star_import() -> None:
    """``from asynctrack import *`` gives the public names."""
    namespace: dict[str, Any] = {}
    exec("from asynctrack import *", namespace)
    assert set(asynctrack.__all__) <= namespace.keys()


def test_every_module_has_its_sentence() -> None:
    """Each module says in its docstring what it is for."""
    for path in Path(asynctrack.__file__).parent.rglob("*.py"):
        source = path.read_text()
        if source or path.name != "__init__.py":  # a package may be nothing but a folder
            assert source.startswith('"""'), path
