"""Servers of Redis and RabbitMQ that the tests own, so that they can fill them up and block them."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest


class OwnRabbitMQ:
    """A broker with small messages, whose memory alarm a test can raise."""

    def __init__(self, port: int, environment: dict[str, str]) -> None:
        self.port = port
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        self._environment = environment

    def control(self, *arguments: str) -> None:
        command = ["rabbitmqctl", "-n", self._environment["RABBITMQ_NODENAME"], *arguments]
        subprocess.run(command, env=self._environment, check=True, capture_output=True, timeout=60)

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        self.control("set_vm_memory_high_watermark", "0.0000001")
        try:
            yield
        finally:
            self.control("set_vm_memory_high_watermark", "0.9")


@pytest.fixture(scope="session")
def own_redis() -> Iterator[str]:
    """Return the URL of a Redis without persistence."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder)
        with _running([_program("redis-server"), *options], dict(os.environ), port):
            yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def own_rabbitmq() -> Iterator[OwnRabbitMQ]:
    port, distribution = _free_port(), _free_port()
    program = _program("rabbitmq-server")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        config = folder / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nmax_message_size = 100000\n")
        plugins = folder / "enabled_plugins"
        plugins.write_text("[].\n")
        environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"es_django_{uuid4().hex[:8]}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
        }
        with _running([program], environment, port):
            server = OwnRabbitMQ(port, environment)
            try:
                yield server
            finally:
                # The start script runs the broker in a process of its own.
                server.control("stop")


def _program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        assert not os.environ.get("ES_DJANGO_REQUIRE_SERVICES"), f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    return program


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def _running(command: list[str], environment: dict[str, str], port: int) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            ended = time.monotonic() + 90
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > ended:
                        log.seek(0)
                        raise AssertionError(log.read().decode(errors="replace")) from None
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)
