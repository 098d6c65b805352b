"""Ask a server through KServe's clients: kserve_client.py ADDRESS GRPC_ADDRESS FILE; FILE gets what they found.

The server has the adapter `tone`. A process has these clients or Triton's, whose messages have the same names.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

TEXTS = ["very good", "the bill is late"]


def request(*, binary: bool) -> InferRequest:
    """Return a request for the labels of the texts."""
    given = InferInput("text", [len(TEXTS)], "BYTES")
    given.set_data_from_numpy(np.array([text.encode() for text in TEXTS], dtype=object), binary_data=binary)
    return InferRequest("tone", [given], request_id="7")


def classified(response: Any) -> Any:
    """Return labels and probabilities."""
    outputs = {one.name: one.as_numpy() for one in response.outputs}
    labels = [one.decode() if isinstance(one, bytes) else one for one in outputs["label"].ravel()]
    return [labels, outputs["scores"].tolist()]


async def over_http(client: InferenceRESTClient, address: str, *, binary: bool) -> Any:
    """Return labels and probabilities, or the server's message."""
    try:
        return classified(await client.infer(address, request(binary=binary), model_name="tone"))
    except httpx.HTTPStatusError as error:
        return str(error)


async def asked(address: str, grpc_address: str) -> Any:
    """Return health and results over both."""
    rest, grpc = InferenceRESTClient(RESTConfig(protocol="v2")), InferenceGRPCClient(grpc_address)
    return {
        "ready": [
            await rest.is_server_live(address),
            await rest.is_server_ready(address),
            await rest.is_model_ready(address, "tone"),
            await grpc.is_server_live(),
            await grpc.is_server_ready(),
            await grpc.is_model_ready("tone"),
        ],
        "binary": await over_http(rest, address, binary=True),
        "json": await over_http(rest, address, binary=False),
        "grpc": classified(await grpc.infer(request(binary=False))),
    }


def main(address: str, grpc_address: str, file: str) -> None:
    """Ask everything and write it to a file."""
    Path(file).write_text(json.dumps(asyncio.run(asked(address, grpc_address))))


if __name__ == "__main__":
    main(*sys.argv[1:])
