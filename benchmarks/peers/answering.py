"""The protocol of a peer's program: it prints "ready", then answers each line (the name of a work) with its rate.

It runs in the environment of the peer, so it needs only Python.
"""

import sys
import time
from collections.abc import Callable, Mapping
from threading import Barrier, Thread


def answer(works: Mapping[str, Callable[[], float]]) -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        print(works[line.strip()](), flush=True)


def rate(work: Callable[[], object], times: int, each: int = 1) -> float:
    for _ in range(5):
        work()
    started = time.perf_counter()
    for _ in range(times):
        work()
    return times * each / (time.perf_counter() - started)


def rate_in_threads(
    work: Callable[[], object], times: int, threads: int, *, end: Callable[[], object] = lambda: None
) -> float:
    """Return the rate of several threads that do the work `times` times each. `end` closes a thread's connections."""
    line = Barrier(threads + 1)

    def take_part() -> None:
        try:
            for _ in range(5):
                work()
            line.wait()
            for _ in range(times):
                work()
            line.wait()
        except BaseException:
            line.abort()
            raise
        finally:
            end()

    for _ in range(threads):
        Thread(target=take_part, daemon=True).start()
    line.wait()
    started = time.perf_counter()
    line.wait()
    return times * threads / (time.perf_counter() - started)
