"""Run a Celery worker of the sample project in separate processes, which a test can kill."""

from collections.abc import Mapping
from pathlib import Path

from tests.background import Background


class Worker(Background):
    """Run one worker with two processes and beat. Its log goes to a file in `folder`."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        name = environment["TEST_QUEUE"]
        arguments = [
            *("-m", "celery", "--app", "testproject", "worker"),
            *("--beat", "--schedule", str(folder / "beat"), "--concurrency", "2", "--hostname", f"{name}@%h"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
        super().__init__(arguments, environment, folder / "worker.log")
