"""The loop of commands that run until they are stopped."""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from django.core.management.base import OutputWrapper

from es_django.core.errors import EsDjangoError

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
NAP: Final = 0.5
"""Seconds between two checks for a signal during a pause. A signal does not end `time.sleep`."""


class Loop:
    """Repeats work until SIGTERM or SIGINT (Ctrl-C).

    After the first signal, the current work ends normally. If the work hangs, a second signal ends the process at once.
    """

    def __init__(self, interval: float, stderr: OutputWrapper) -> None:
        self._interval = interval
        self._stderr = stderr
        self._stopped = False

    def is_stopped(self) -> bool:
        return self._stopped

    def run(self, work: Callable[[], int], *, once: bool = False) -> int:
        """Call `work` again and again, and return the sum of its results.

        After a result of 0, pause for the interval, or end if `once` is set. After a retryable error, print the error
        and pause, or raise the error if `once` is set. Raise any other error.
        """
        total = 0
        before = {number: signal.signal(number, self._stop) for number in SIGNALS}
        try:
            while not self._stopped:
                try:
                    done = work()
                except EsDjangoError as error:
                    if once or not error.retryable:
                        raise
                    self._stderr.write(f"{error}; retrying in {self._interval:g} s")
                    done = 0
                total += done
                if not done:
                    if once:
                        break
                    self._pause()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return total

    def _pause(self) -> None:
        end = time.monotonic() + self._interval
        while not self._stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, NAP))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        signal.signal(number, signal.SIG_DFL)
