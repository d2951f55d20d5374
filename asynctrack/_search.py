"""Whether bytes hold one of many texts: asked of pydantic's Rust engine.

It looks for plain texts many bytes at a time: 5 µs for 100 KB, where ``in`` takes 20 to 60.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated


@cache
def question(pattern: str) -> Callable[[bytes], bool]:
    """Return a function that tells whether UTF-8 bytes hold a match of a pattern.

    Args:
        pattern: In the syntax of Rust's ``regex``: no look-around, no back references.
    """
    # Imported when the first tracker is made: `import asynctrack` stays light.
    from pydantic import StringConstraints, TypeAdapter

    validator = TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)]).validator
    return validator.isinstance_python
