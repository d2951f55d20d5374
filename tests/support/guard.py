"""Run a command that must not outlive the process which started it.

Started as a script: ``python guard.py COMMAND...``, with a pipe as standard input that the parent
keeps open. When the pipe closes, because the parent closed it or because the parent is gone
(SIGKILL included), the command is killed. A pipe is used and not Linux' parent-death signal: that
one fires when the *thread* which started the child ends, and it does not exist on macOS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading


def main() -> int:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def kill_at_end_of_input() -> None:
        # Not sys.stdin: the interpreter could not shut down while this thread waits in it.
        while os.read(0, 1):
            pass
        child.kill()

    threading.Thread(target=kill_at_end_of_input, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
