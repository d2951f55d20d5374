"""The tests of this folder need the extra ``places``, which has an environment of its own."""

from __future__ import annotations

from importlib.util import find_spec

# The README's test command does without: these programs bring two hundred packages. `.ci/run`
# collects the folder by name, where they are installed, and fails if it finds no test.
if find_spec("phoenix") is None:
    collect_ignore_glob = ["test_*.py"]
