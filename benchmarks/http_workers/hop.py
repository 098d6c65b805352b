"""A prototype of the hop from an HTTP process to the engine's: `python -m benchmarks.http_workers.hop SOCKET`.

A request is the tokens of a text and an adapter's name, a response a label's scores, both pickled, over a Unix socket
that requests share. It does nothing else, and so is the least that such a hop costs.
"""

import asyncio
import contextlib
import pickle
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.support.processes import processor_seconds

REQUESTS = 20_000
TOKENS = list(range(1000, 1024))
SIZE = struct.Struct("<I")


def hop_seconds(clients: int) -> tuple[float, float]:
    """Return the processor seconds of a request in the process that sends it, and in the one that answers."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "socket"
        process = subprocess.Popen([sys.executable, "-m", __name__, str(socket)], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            before, start = processor_seconds(process.pid), time.process_time()
            uvloop.run(_send(socket, clients))
            own = time.process_time() - start
            return own / REQUESTS, (processor_seconds(process.pid) - before) / REQUESTS
        finally:
            process.kill()
            process.wait()


async def _send(socket: Path, clients: int) -> None:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    waiting: dict[int, asyncio.Future[Any]] = {}

    async def receive() -> None:
        while True:
            number, result = await _read(reader)
            waiting.pop(number).set_result(result)

    async def client(numbers: Iterator[int]) -> None:
        for number in numbers:
            waiting[number] = asyncio.get_running_loop().create_future()
            _write(writer, (number, [TOKENS], "acme"))
            await waiting[number]

    receiving, numbers = asyncio.create_task(receive()), iter(range(REQUESTS))
    await asyncio.gather(*(client(numbers) for _ in range(clients)))
    receiving.cancel()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    scores = np.array([0.1, 0.9], np.float32)
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            number, _, adapter = await _read(reader)
            _write(writer, (number, [(scores, adapter)]))


async def _read(reader: asyncio.StreamReader) -> Any:
    (size,) = SIZE.unpack(await reader.readexactly(SIZE.size))
    return pickle.loads(await reader.readexactly(size))


def _write(writer: asyncio.StreamWriter, value: object) -> None:
    data = pickle.dumps(value)
    writer.write(SIZE.pack(len(data)) + data)


async def _serve(socket: str) -> None:
    server = await asyncio.start_unix_server(_answer, socket)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
