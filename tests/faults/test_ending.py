"""Rows 20, 50 and 54: how programs end, and what they hear of it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from asynctrack import tracker
from tests.e2e.waiting import until_in_thread
from tests.faults.ground import finish, line_of, outputs, start_child, tell
from tests.support.auditor import events_in_folder

GOES_ON = """
    import sys, threading, time, uuid
    from concurrent.futures import ThreadPoolExecutor
    from asynctrack import tracker

    folder = sys.argv[1]
    print("entering", flush=True)
    theirs = tracker(folder, run_name="theirs").__enter__()
    go = threading.Event()

    def log(handler, who):
        for number in range(8):
            handler.on_chain_end([who, number], run_id=uuid.uuid4())

    def goes_on():
        log(theirs, "before")
        go.wait()
        log(theirs, "after")

    def in_a_block_of_its_own():
        with tracker(folder, run_name="own") as handler:
            log(handler, "own, before")
            go.wait()
            log(handler, "own, after")

    def starts_another():
        go.wait()
        in_a_block_of_its_own()

    def end():
        sys.stdin.readline()  # when the main thread is at its end
        main, quiet = threading.main_thread().ident, 0
        while quiet < 30:  # and what it closes there is closed
            frame, names = sys._current_frames()[main], set()
            while frame is not None:
                names.add(frame.f_code.co_name)
                frame = frame.f_back
            quiet = 0 if "close_at_exit" in names else quiet + 1
            time.sleep(0.01)
        go.set()

    pool = ThreadPoolExecutor(2)
    pool.submit(goes_on)
    pool.submit(int).result()  # and a thread that waits for work
    for function in (goes_on, in_a_block_of_its_own, starts_another, end):
        threading.Thread(target=function).start()
    hook = threading._shutdown
    def shutdown():
        print("over", flush=True)
        hook()
    threading._shutdown = shutdown
"""


@pytest.mark.parametrize("flags", [(), ("-X", "dev", "-W", "error")])
def test_threads_that_go_on_after_the_main_thread(flags: tuple[str, ...], tmp_path: Path) -> None:
    """What threads and pools track until they end is accepted and delivered, block left or not."""
    child = start_child(GOES_ON, str(tmp_path / "out"), flags=flags)
    assert line_of(child) == "entering"
    assert line_of(child) == "over"
    tell(child)
    _, errors = finish(child)
    assert child.returncode == 0 and "Traceback" not in errors, errors
    # Python 3.12 starts no thread by then: what was entered late is for the next tracker.
    with tracker(tmp_path / "next") as handler:
        until_in_thread(lambda: len(events_in_folder(tmp_path / "out")) == 64)
        assert handler.statistics().replayed in (0, 16)
    found = outputs(events_in_folder(tmp_path / "out"))
    for who, times in (("before", 2), ("after", 2), ("own, before", 2), ("own, after", 2)):
        mine = [number for name, number in found if name == who]
        assert sorted(mine) == sorted([*range(8)] * times), who


# Of each program: how it uses the tracker, and what happens in its body.
ENDS = """
    import asyncio, atexit, json, logging, os, signal, socket, sys, threading, time, traceback, uuid
    from langchain_core.callbacks import manager  # as a program with chains has it
    from asynctrack import tracker

    # In one piece: what others say at the same time comes before it or after it.
    sys.excepthook = lambda *error: sys.stderr.write("".join(traceback.format_exception(*error)))
    use, body, sink, folder = sys.argv[1:5]
    options = {"run_name": "r"}
    if sink != "fine":
        options |= {"close_patience": 0.3, "close_timeout": 5.0}
    where = folder
    if sink == "hangs":
        from tests.faults.light import Place
        server = socket.create_server(("127.0.0.1", 0))
        atexit.register(server.close)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        where = Place(url, url, "key", "secret", "bucket", "e").run()
        del options["run_name"]
    threads_ready = threading.Event()

    def happens():
        threads_ready.set()
        if body == "exit":
            sys.exit(3)
        if body == "error":
            raise ValueError("the program's own")
        if body == "os._exit":
            os._exit(4)
        if body == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(600):
                time.sleep(0.1)
        if body == "stays":
            threading.Event().wait(600)

    def log(handler):
        for number in range(5):
            handler.on_chain_end(number, run_id=uuid.uuid4())

    def inside():
        with tracker(where, **options) as handler:
            log(handler)
            happens()

    async def awaited(leaves=True):
        asyncio.get_running_loop().slow_callback_duration = 600  # its own: the machine is busy
        here = tracker(where, **options)
        handler = await here.__aenter__()
        try:
            for number in range(5):
                await handler.on_chain_end(number, run_id=uuid.uuid4())
            if body == "stays":
                threads_ready.set()
                await asyncio.sleep(600)
            happens()
        finally:
            if leaves:
                await here.__aexit__(None, None, None)

    if use == "with":
        inside()
    elif use == "async with":
        asyncio.run(awaited())
    elif use == "never left":
        log(tracker(where, **options).__enter__())
        happens()
    elif use == "never left, async":
        asyncio.run(awaited(leaves=False))
    elif use == "atexit":
        atexit.register(inside)
    elif use == "daemon":
        threading.Thread(target=inside, daemon=True).start()
        threads_ready.wait()
    elif use == "daemon, async":
        threading.Thread(target=lambda: asyncio.run(awaited()), daemon=True).start()
        threads_ready.wait()
    elif use == "fork":
        with tracker(where, **options) as handler:
            log(handler)
            pid = os.fork()
            if not pid:
                log(handler)
                happens()
                sys.exit(0)
            os.waitpid(pid, 0)
"""

ORDERS = [
    ("with", "ends", 0),
    ("with", "exit", 3),
    ("with", "error", 1),
    ("with", "os._exit", 4),
    ("with", "interrupt", -2),
    ("async with", "ends", 0),
    ("async with", "exit", 3),
    ("async with", "error", 1),
    ("never left", "ends", 0),
    ("never left", "error", 1),
    ("never left, async", "ends", 0),
    ("atexit", "ends", 0),
    ("daemon", "stays", 0),
    ("daemon, async", "stays", 0),
    ("fork", "ends", 0),
    ("fork", "os._exit", 0),
]


@pytest.mark.parametrize("sink", ["fine", "gone", "hangs"])
@pytest.mark.parametrize(("use", "body", "status"), ORDERS)
def test_nothing_is_said_at_the_end(
    use: str, body: str, status: int, sink: str, tmp_path: Path
) -> None:
    """With every warning an error and asyncio debugging: our warnings, one line each, no more."""
    out = tmp_path / "out"
    if sink == "gone":
        out.write_text("in the way of the folder of this name")
    child = start_child(
        ENDS, use, body, sink, str(out), flags=("-X", "dev", "-W", "error"), PYTHONASYNCIODEBUG="1"
    )
    _, errors = finish(child)
    assert child.returncode == status, errors
    # What the program itself raised, with its traceback; and a block that was never left.
    of_its_own = {"error": "ValueError: the program's own", "interrupt": "KeyboardInterrupt"}
    lines = errors.splitlines()
    if body in of_its_own:
        assert lines.count(of_its_own[body]) == 1, errors
        begin = lines.index("Traceback (most recent call last):")
        lines[begin : lines.index(of_its_own[body]) + 1] = []
    unclosed = [line for line in lines if line.startswith("unclosed <asynctrack.Tracker ")]
    assert len(unclosed) == (1 if "never" in use or body == "stays" else 0), errors
    said = [line for line in lines if line not in unclosed]
    assert all(line.startswith("asynctrack ") for line in said), errors
    if sink == "fine" and said:  # Python 3.12 starts no thread in functions of atexit
        assert use == "atexit" and len(said) == 1 and "at interpreter shutdown" in said[0], errors
    elif sink != "fine" and body != "os._exit":
        assert said, "what is left is told"


LEFT_OPEN = """
    import logging, sys, uuid
    from asynctrack import tracker

    kept = []

    def test_a_program(request):
        # To the stream that pytest captures with, and closes.
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
        where = request.config.rootpath / "wall" / "out"
        kept.append(tracker(where, close_patience=0.3, max_delay=0.05))
        kept[0].__enter__().on_chain_end(1, run_id=uuid.uuid4())

    def test_another(capfd):
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
"""

THEIR_OWN = """
    import atexit
    atexit.register(lambda: logging.getLogger("theirs").warning("at the end"))
"""


@pytest.mark.parametrize("theirs", [False, True])
def test_a_stream_that_pytest_has_closed(theirs: bool, tmp_path: Path) -> None:
    """A tracker that a test left open says at the end what is left, and no logging error.

    The logging error of a record that is the program's own is still reported.
    """
    (tmp_path / "wall").write_text("in the way")
    code = LEFT_OPEN + (THEIR_OWN if theirs else "")
    (tmp_path / "test_it.py").write_text(textwrap.dedent(code))
    command = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    options = ("-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-n0", "--rootdir")
    child = start_child(command, *options, str(tmp_path), str(tmp_path), flags=("-X", "dev"))
    printed, errors = finish(child)
    assert child.returncode == 0, printed + errors
    assert errors.count("asynctrack could not deliver 1 of 1 events") == 1
    assert errors.count("--- Logging error ---") == theirs, errors
    assert errors.count("Traceback") == theirs, errors


FORKED = """
    import multiprocessing, sys, threading, uuid
    from concurrent.futures import ThreadPoolExecutor
    from asynctrack import tracker

    over = multiprocessing.get_context("fork").Event()
    hook = threading._shutdown

    def shutdown():
        over.set()
        hook()

    threading._shutdown = shutdown

    def target(folder):
        handler = tracker(folder, run_name="child").__enter__()

        def goes_on(who):
            over.wait()
            for number in range(8):
                handler.on_chain_end([who, number], run_id=uuid.uuid4())

        ThreadPoolExecutor(1).submit(goes_on, "pool")
        threading.Thread(target=goes_on, args=["thread"]).start()

    with tracker(sys.argv[1], run_name="parent") as handler:
        handler.on_chain_end(["parent", 0], run_id=uuid.uuid4())
        child = multiprocessing.get_context("fork").Process(target=target, args=[sys.argv[1]])
        child.start()
        child.join()
        assert child.exitcode == 0
"""


def test_threads_that_go_on_in_a_child_of_multiprocessing(tmp_path: Path) -> None:
    """A forked child runs no function of atexit: its threads are waited for all the same."""
    child = start_child(FORKED, str(tmp_path / "out"))
    _, errors = finish(child)
    assert (child.returncode, errors) == (0, "")
    found = outputs(events_in_folder(tmp_path / "out"))
    assert sorted(found) == sorted(
        [["parent", 0], *([who, number] for who in ("pool", "thread") for number in range(8))]
    )
