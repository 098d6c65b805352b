"""Clients in a closed loop, as a process of its own: `python -m benchmarks.support.load_client …`.

Arguments: URL CLIENTS BODIES.json.

Each client sends a request, waits for the response and sends the next, over a connection that it keeps, until all
bodies are sent. Prints one JSON object: `seconds`, from the first request to the last response, and `latencies`, one a
request.

It shares the cores with the server that it measures, and so does as little as it can: requests are built beforehand,
and of a response only its status and its length are read, or the lengths of its chunks (0.06 ms a request, where
aiohttp's client took 0.4).
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

END = b"\r\n\r\n"
LENGTH = b"content-length:"
LINE_END = b"\r\n"


async def closed_loop(url: str, clients: int, bodies: list[Any]) -> dict[str, Any]:
    """Send all bodies and return what it took."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    connections = [await asyncio.open_connection(host, port) for _ in range(clients)]
    waiting = iter([_request(url, body) for body in bodies])
    start = time.perf_counter()
    found = await asyncio.gather(*(_client(*connection, waiting) for connection in connections))
    seconds = time.perf_counter() - start
    for _, writer in connections:
        writer.close()
    return {"seconds": seconds, "latencies": [latency for latencies in found for latency in latencies]}


def _request(url: str, body: Any) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {urlsplit(url).path} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
    )
    return "\r\n".join(head).encode() + END + data


async def _client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: Iterator[bytes]) -> list[float]:
    latencies = []
    for request in waiting:
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(END)
        length = head.lower().partition(LENGTH)[2].partition(b"\r\n")[0]
        answer = await reader.readexactly(int(length)) if length else await _chunks(reader)
        if head.split(b" ", 2)[1] != b"200":
            raise RuntimeError(f"{head[:20]!r} {answer[:200]!r}")
        latencies.append(time.perf_counter() - start)
    return latencies


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """Return the last chunk of a streamed response that is not empty."""
    last = b""
    while size := int(await reader.readuntil(LINE_END), 16):
        last = (await reader.readexactly(size + len(LINE_END)))[:size]
    await reader.readexactly(len(LINE_END))
    return last


if __name__ == "__main__":
    url, clients, file = sys.argv[1:]
    print(json.dumps(uvloop.run(closed_loop(url, int(clients), json.loads(Path(file).read_text())))))
