"""How the package is built: no circles of imports, and each package says what it is for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import asynctrack

ROOT = Path(asynctrack.__file__).parent
STATIC = ROOT / "view" / "static"

MODULES: Mapping[str, Path] = {
    ".".join((ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imported_by(name: str, path: Path) -> Iterator[str]:
    """Yield our modules that a module imports anywhere: also in functions and for types only."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*(above if node.level else ()), *filter(None, [node.module])])
            for alias in node.names:
                module = f"{source}.{alias.name}"
                if module in MODULES:
                    yield module
                elif source in MODULES:
                    yield source


def scripts_imported_by(path: Path) -> Iterator[str]:
    """Yield the modules of the pages that a module imports or passes on."""
    for found in re.finditer(r"""\b(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""", path.read_text()):
        yield (path.parent / found[1]).resolve().relative_to(STATIC).as_posix()


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Return one circle of a graph; nothing where it has none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_no_circle_of_modules() -> None:
    """No module imports one that leads back to it, wherever the import stands."""
    graph = {name: {*imported_by(name, path)} - {name} for name, path in MODULES.items()}
    assert graph["asynctrack._tracker"], "the imports are found"
    assert circle_in(graph) == []


def test_no_circle_of_scripts() -> None:
    """No ES module of the pages imports one that leads back to it."""
    graph = {
        path.relative_to(STATIC).as_posix(): {*scripts_imported_by(path)}
        for path in sorted(STATIC.rglob("*.js"))
    }
    assert {"lib.js", "run.js"} <= graph["main.js"], "the imports are found"
    assert set().union(*graph.values()) <= graph.keys()
    assert circle_in(graph) == []


@pytest.mark.parametrize(
    "name", [name for name, path in MODULES.items() if path.name == "__init__.py"]
)
def test_every_package_says_what_it_is_for(name: str) -> None:
    """Each package has a docstring: what comes in, what goes out, who calls it."""
    assert ast.get_docstring(ast.parse(MODULES[name].read_text())), name


def test_the_picture_of_the_way_is_the_folder_listing() -> None:
    """The guide and the package's own docstring show every package of the folder, and no other."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    for text in ((ROOT / "guide/how-it-works.md").read_text(), str(asynctrack.__doc__)):
        shown = set(re.findall(r"(?m)^ +(_[a-z]+)/ ", text))
        assert shown >= {name for name in packages if name.startswith("_")} - {"_reading"}
        assert shown <= packages
