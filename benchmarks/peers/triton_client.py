"""Ask a server through tritonclient: triton_client.py ADDRESS GRPC_ADDRESS FILE; FILE gets what it found.

The server has the adapter `tone`, and may load the folder `extra`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

TEXTS = np.array([[b"very good"], [b"the bill is late"]], dtype=object)


def classified(client: Any, module: Any, *, binary: bool) -> Any:
    """Return labels and probabilities."""
    given = module.InferInput("text", TEXTS.shape, "BYTES")
    options = {} if module is over_grpc else {"binary_data": binary}
    given.set_data_from_numpy(TEXTS, **options)
    wanted = [module.InferRequestedOutput(name, **options) for name in ("label", "scores")]
    found = client.infer("tone", [given], outputs=wanted, request_id="7")
    labels = [one.decode() if isinstance(one, bytes) else one for one in found.as_numpy("label")]
    return [labels, found.as_numpy("scores").tolist()]


def asked(client: Any, module: Any) -> Any:
    """Return health, metadata, results, and the class of an error."""
    error = None
    try:
        client.get_model_metadata("east")
    except module.InferenceServerException as refused:
        error = str(refused)
    metadata = client.get_model_metadata("tone")
    return {
        "ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("tone")],
        "inputs": [one["name"] for one in metadata["inputs"]]
        if isinstance(metadata, dict)
        else [one.name for one in metadata.inputs],
        "binary": classified(client, module, binary=True),
        "json": classified(client, module, binary=False),
        "error": error,
    }


def main(address: str, grpc_address: str, file: str) -> None:
    """Ask everything and write it to a file."""
    http = over_http.InferenceServerClient(address.removeprefix("http://"))
    found = {"http": asked(http, over_http)}
    found["grpc"] = asked(over_grpc.InferenceServerClient(grpc_address), over_grpc)
    before = sorted(one["name"] for one in http.get_model_repository_index())
    http.load_model("extra")
    loaded = http.is_model_ready("extra")
    http.unload_model("extra")
    after = sorted(one["name"] for one in http.get_model_repository_index())
    found["repository"] = {"before": before, "loaded": loaded, "after": after}
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
