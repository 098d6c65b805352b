"""Clients in a closed loop, as a process of its own: `python -m benchmarks.load URL CLIENTS BODIES.json`.

Each client sends a request, waits for the answer and sends the next, over a connection that it keeps, until all bodies
are sent. Prints one JSON object: `seconds`, from the first request to the last answer, and `latencies`, one a request.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp


async def closed_loop(url: str, clients: int, bodies: list[Any]) -> dict[str, Any]:
    """Send all bodies and return what it took."""
    waiting = iter([json.dumps(body).encode() for body in bodies])
    connector = aiohttp.TCPConnector(limit=clients)
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        start = time.perf_counter()
        found = await asyncio.gather(*(_client(session, url, waiting) for _ in range(clients)))
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "latencies": [latency for latencies in found for latency in latencies]}


async def _client(session: aiohttp.ClientSession, url: str, waiting: Iterator[bytes]) -> list[float]:
    latencies = []
    for body in waiting:
        start = time.perf_counter()
        async with session.post(url, data=body) as response:
            answer = await response.read()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {answer[:200]!r}")
        latencies.append(time.perf_counter() - start)
    return latencies


if __name__ == "__main__":
    url, clients, file = sys.argv[1:]
    print(json.dumps(asyncio.run(closed_loop(url, int(clients), json.loads(Path(file).read_text())))))
