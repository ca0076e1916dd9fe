"""The loop of commands that run until they are stopped."""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from django.core.management.base import OutputWrapper

from es_django.core.errors import EsDjangoError
from es_django.core.logs import Log
from es_django.store.errors import StorageError

logger: Log = Log("es_django.commands")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
NAP: Final = 0.5
"""Seconds between two checks for a signal during a pause. A signal does not end `time.sleep`."""
LONGEST_PAUSE: Final = 60.0
"""Seconds of the longest pause after errors that are not retryable."""
MOST_DOUBLINGS: Final = 30


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

        After a result of 0, pause for the interval, or end if `once` is set. If `once` is set, raise every error.
        Otherwise:

        - After a retryable error, print the error and pause.
        - After a `StorageError` that is not retryable, such as one of a missing right, log the error at ERROR and
          pause. The pause doubles with each such error, up to `LONGEST_PAUSE`: a person can mend the database
          meanwhile, and nobody has to restart the process.
        - Raise any other error, because only a change of the project's code or settings can mend it.
        """
        total, failures = 0, 0
        before = {number: signal.signal(number, self._stop) for number in SIGNALS}
        try:
            while not self._stopped:
                try:
                    done = work()
                    failures = 0
                except EsDjangoError as error:
                    if once or not (error.retryable or isinstance(error, StorageError)):
                        raise
                    done, failures = 0, 0 if error.retryable else failures + 1
                    self._report(error, self._seconds(failures))
                total += done
                if not done:
                    if once:
                        break
                    self._pause(self._seconds(failures))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return total

    def _seconds(self, failures: int) -> float:
        """Return the seconds of the pause after so many errors in a row that are not retryable."""
        longest = max(self._interval, LONGEST_PAUSE)
        return min(longest, self._interval * (1 << min(max(failures - 1, 0), MOST_DOUBLINGS)))

    def _report(self, error: EsDjangoError, seconds: float) -> None:
        if not error.retryable:
            logger.error("%s; trying again in %g s", error, seconds, exc_info=error, extra={"pause": seconds})
        self._stderr.write(f"{error}; retrying in {seconds:g} s")

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, NAP))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        signal.signal(number, signal.SIG_DFL)
