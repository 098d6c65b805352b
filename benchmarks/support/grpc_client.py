"""Clients of the Open Inference Protocol over gRPC in a closed loop: `python -m benchmarks.support.grpc_client …`.

Arguments: ADDRESS CLIENTS REQUESTS MODEL TEXT. Each client sends a text, waits for the response and sends it again,
over a channel that all share, until all requests are sent. Prints what `benchmarks.support.load_client` prints.
"""

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import uvloop

from serve.grpc.messages import MESSAGES
from serve.grpc.server import SERVICE

STARTUP = 10.0
"""Seconds after which there is no server."""


async def closed_loop(address: str, clients: int, requests: int, model: str, text: str) -> dict[str, Any]:
    """Send all requests and return what it took."""
    request = MESSAGES["ModelInferRequest"](model_name=model)
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(text.encode())
    waiting = iter([request.SerializeToString()] * requests)
    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), STARTUP)
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        start = time.perf_counter()
        found = await asyncio.gather(*(_client(call, waiting) for _ in range(clients)))
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "latencies": [latency for latencies in found for latency in latencies]}


async def _client(call: Any, waiting: Any) -> list[float]:
    latencies = []
    for request in waiting:
        start = time.perf_counter()
        await call(request)
        latencies.append(time.perf_counter() - start)
    return latencies


if __name__ == "__main__":
    address, clients, requests, model, text = sys.argv[1:]
    print(json.dumps(uvloop.run(closed_loop(address, int(clients), int(requests), model, text))))
