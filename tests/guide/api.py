"""The page on the API, from the docstrings: ``python -m tests.guide.api`` writes it anew."""

from __future__ import annotations

import inspect
import logging
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final, get_args

from griffe import Docstring

import asynctrack
from asynctrack import _options, compat, testing
from asynctrack._reading.sources import locate
from tests.guide.pages import GUIDE

PAGE: Final = GUIDE / "api.md"
MODULES: Final = {
    "asynctrack": asynctrack,
    "asynctrack.compat": compat,
    "asynctrack.testing": testing,
}
OURS: Final = {
    "adopt", "after_fork", "begin_close", "close_at_exit", "flush_and_mirror", "open_unattended",
}  # fmt: skip
"""Methods of a tracker that other parts of asynctrack call, and users do not."""
CONSTRUCTED: Final = {"SageMakerCallbackHandler"}
"""Classes whose objects users make; those of all others they get."""
_INTRO: Final = """\
# API reference

Everything that is public, from its docstrings. How it goes together is in the other guides: start
with [tracking](tracking.md) and [reading](reading.md).
"""
_WIDTH: Final = 100
_SECTIONS: Final = {
    "parameters": "Arguments",
    "attributes": "Attributes",
    "raises": "Raises",
    "returns": "Returns",
    "yields": "Yields",
}


def public() -> Iterator[tuple[str, str, Any]]:
    """Yield module, name and thing of all that has an entry."""
    for module, namespace in MODULES.items():
        for name in namespace.__all__:
            yield module, name, getattr(namespace, name)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class has of ours, inherited too; LangChain's own callbacks are no calls for
    users."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] == "asynctrack":
            found.update((key, one) for key, one in vars(base).items() if key[0] != "_")
    for key, one in found.items():
        code = getattr(one, "__func__", getattr(one, "fget", None) or getattr(one, "func", one))
        if key.startswith(("on_", "ignore_")) or key in OURS or not code.__doc__:
            continue
        if callable(code) and not isinstance(one, type):
            yield key, one


def made() -> str:
    """Return the page."""
    parts = [_INTRO]
    for module, namespace in MODULES.items():
        listed = sorted(namespace.__all__, key=str.lower)
        parts.append(f"## {module}\n")
        parts.append(" · ".join(f"[`{name}`](#{_anchor(namespace, name)})" for name in listed))
        parts += ["", *(entry(name, getattr(namespace, name)) for name in listed)]
    known = types("\n".join(parts))
    rows = [f"- `{name}`: `{_value(alias)}`" for name, alias in sorted(known.items())]
    return "\n".join([*parts, "## Types\n\nNames of types in the signatures above.\n", *rows, ""])


def entry(name: str, thing: Any) -> str:
    """Return what the page says of a function or a class."""
    if not isinstance(thing, type):
        return "\n".join([f"### {name}\n", *_said(name, thing)])
    lines = [f"### class {name}\n", *_said(name, thing)]
    for key, one in members(thing):
        lines += [f"#### {name}.{key}\n", *_said(key, one)]
    return "\n".join(lines)


def _anchor(namespace: Any, name: str) -> str:
    """Return the name of an entry's heading; there are ``Session`` and ``session``."""
    return f"class-{name.lower()}" if isinstance(getattr(namespace, name), type) else name.lower()


def types(page: str) -> dict[str, Any]:
    """Return the aliases that signatures on the page name."""
    words = {
        word
        for block in re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        for word in re.findall(r"\w+", block)
    }
    return {
        name: alias
        for module in (_options, locate)
        for name, alias in vars(module).items()
        if name in words and get_args(alias) and not isinstance(alias, type)
    }


def _said(name: str, thing: Any) -> Iterator[str]:
    if isinstance(thing, (property, cached_property)):
        code: Any = getattr(thing, "fget", None) or thing.func  # type: ignore[union-attr]
        shown = f"{name}: {code.__annotations__.get('return', 'Any')}"
    elif isinstance(thing, type):
        code, shown = thing, _class(name, thing)
    else:
        code = getattr(thing, "__func__", thing)
        shown = _signature(name, code, inspect.iscoroutinefunction(inspect.unwrap(code)))
    yield f"```py\n{shown}\n```\n"
    got = isinstance(thing, type) and name not in CONSTRUCTED
    yield from _docstring(inspect.getdoc(code) or "", {"parameters"} if got else set())


def _class(name: str, kind: type) -> str:
    if name in CONSTRUCTED:
        return "class " + _signature(name, vars(kind)["__init__"]).removesuffix(" -> None")
    bases = [base.__name__ for base in kind.__bases__ if base.__name__[0] != "_"]
    return f"class {name}({', '.join(bases)})" if bases != ["object"] else f"class {name}"


def _signature(name: str, call: Callable[..., Any], waits: bool = False) -> str:
    signature = inspect.signature(call)
    shown = [one for one in signature.parameters.values() if one.name != "self"]
    texts: list[str] = []
    for one in shown:
        star = any(text[0] == "*" for text in texts)
        if one.kind is one.KEYWORD_ONLY and not star:
            texts.append("*")
        texts.append(_parameter(one))
    returned = signature.return_annotation
    arrow = "" if returned is signature.empty else f" -> {returned}"
    line = f"{'async ' if waits else ''}{name}({', '.join(texts)}){arrow}"
    if len(line) <= _WIDTH:
        return line
    return line.partition("(")[0] + "(\n" + "".join(f"    {one},\n" for one in texts) + f"){arrow}"


def _parameter(one: inspect.Parameter) -> str:
    stars = "*" * (one.kind is one.VAR_POSITIONAL) + "**" * (one.kind is one.VAR_KEYWORD)
    typed = "" if one.annotation is one.empty else f": {one.annotation}"
    if one.default is one.empty:
        return f"{stars}{one.name}{typed}"
    number = type(one.default) is int and abs(one.default) >= 10_000
    default = f"{one.default:_}" if number else repr(one.default).replace("'", '"')
    return f"{one.name}{typed}{' = ' if typed else '='}{default}"


def _value(alias: Any) -> str:
    text = re.sub(r"ForwardRef\('([^']+)'\)", r"\1", repr(alias))
    return re.sub(r"\b(?:typing|collections\.abc|asynctrack[\w.]*)\.", "", text).replace("'", '"')


def _docstring(text: str, without: set[str]) -> Iterator[str]:
    logging.getLogger("griffe").setLevel(logging.CRITICAL)  # types are in the signature
    for section in Docstring(text, lineno=1).parse("google", warnings=False):
        kind = section.kind.value
        if kind in without:
            continue
        if kind == "text":
            yield _prose(section.value) + "\n"
        elif kind == "admonition":
            yield f"**{section.title}**\n\n```pycon\n{section.value.contents.strip()}\n```\n"
        else:
            yield f"**{_SECTIONS[kind]}**\n"
            for one in section.value:
                label = _label(kind, one)
                yield textwrap.indent(_prose(one.description), "  ").replace("  ", label, 1)
            yield ""


def _label(kind: str, one: Any) -> str:
    name = one.annotation if kind == "raises" else getattr(one, "name", "")
    return f"- `{name}`: " if name and kind not in ("returns", "yields") else "- "


def _prose(text: str) -> str:
    """Return text of a docstring as Markdown: its code, and its blocks of code."""
    text = re.sub(
        r"(?m)(?<=:):\n\n((?:(?: {4}.*)?\n?)+)",
        lambda block: f"\n\n```py\n{textwrap.dedent(block[1]).strip()}\n```\n\n",
        text + "\n",
    )
    return re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL).strip()


if __name__ == "__main__":
    PAGE.write_text(made(), encoding="utf-8")
