"""Writes down every address beyond this machine that a process asks for.

Python imports a module of this name when it starts: a process, and its children, that are given
this folder in ``PYTHONPATH`` and the name of a file in ``FOREIGN_ADDRESSES``.
"""

import os
import sys

_HERE = ("127.", "localhost", "::1")
_file = os.environ.get("FOREIGN_ADDRESSES")


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path: a Unix socket
    else:
        return
    text = host.decode() if isinstance(host, bytes) else host
    if isinstance(text, str) and text and not text.startswith(_HERE):
        with open(str(_file), "a", encoding="utf-8") as file:
            file.write(f"{text}\n")


if _file:
    sys.addaudithook(_watch)
