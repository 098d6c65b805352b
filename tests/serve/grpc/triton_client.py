"""Ask a server as Triton's clients do: `triton_client.py HTTP GRPC OUT`; run by the interpreter of its peer.

Its HTTP client is used where the packages that it needs are there.
"""

import json
import queue
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

ADAPTER, CLASSIFIER, LOADED = "north", "tone", "intent"
PROMPTS = ["good bad", "the bill is late"]
PARAMETERS = {"max_tokens": 6, "ignore_eos": True}


def texts(client, name, values):
    tensor = client.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array([value.encode() for value in values], object))
    return tensor


def scalar(client, name, datatype, value):
    tensor = client.InferInput(name, [1], datatype)
    tensor.set_data_from_numpy(np.array([value]))
    return tensor


def decoded(result, name):
    return [value.decode() for value in result.as_numpy(name).ravel()]


def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except Exception as error:
        return str(error)
    return "accepted"


def asked(module, address):
    """All that both clients have in common."""
    client = module.InferenceServerClient(address)
    found = {"live": client.is_server_live(), "ready": client.is_server_ready()}
    found["model_ready"] = [client.is_model_ready(name) for name in (ADAPTER, CLASSIFIER, LOADED)]
    prompts, rows = texts(module, "text_input", PROMPTS), texts(module, "text", PROMPTS)
    result = client.infer(ADAPTER, [prompts], parameters=PARAMETERS)
    found["texts"], found["reasons"] = decoded(result, "text_output"), decoded(result, "finish_reason")
    beside = [prompts, scalar(module, "max_tokens", "INT32", np.int32(6)), scalar(module, "ignore_eos", "BOOL", True)]
    found["beside"] = decoded(client.infer(ADAPTER, beside), "text_output")
    found["labels"] = decoded(client.infer(CLASSIFIER, [rows]), "label")
    found["unknown"] = refused(client.infer, ADAPTER, [prompts], parameters={"max_new_tokens": 6})
    found["range"] = refused(client.infer, ADAPTER, [prompts], parameters={"max_tokens": -1})
    client.load_model(LOADED)
    found["loaded"] = client.is_model_ready(LOADED)
    found["loaded_labels"] = decoded(client.infer(LOADED, [rows]), "label")
    client.unload_model(LOADED)
    found["unloaded"] = client.is_model_ready(LOADED)
    found["outside"] = refused(client.load_model, "..")
    return client, found


def over_grpc(address):
    client = import_module("tritonclient.grpc")
    server, found = asked(client, address)
    metadata = server.get_model_metadata(ADAPTER, as_json=True)
    found["inputs"] = [[one["name"], one["datatype"], one["shape"]] for one in metadata["inputs"]]
    found["outputs"] = [[one["name"], one["datatype"], one["shape"]] for one in metadata["outputs"]]
    index = server.get_model_repository_index(as_json=True)
    found["index"] = sorted(one["name"] for one in index["models"])
    answers = queue.Queue()
    server.start_stream(lambda result, error: answers.put((result, error)))
    for name, prompt in (("text_input", PROMPTS[0]), ("wrong", PROMPTS[0]), ("text_input", PROMPTS[1])):
        inputs = [texts(client, name, [prompt])]
        server.async_stream_infer(
            ADAPTER, inputs, request_id=prompt, parameters=PARAMETERS, enable_empty_final_response=True
        )
    found["streams"], found["stream_errors"], ends = {prompt: [] for prompt in PROMPTS}, [], 0
    whole = json.dumps(PARAMETERS)  # as Triton's backend of vLLM has them
    inputs = [texts(client, "text_input", PROMPTS[:1]), texts(client, "sampling_parameters", [whole])]
    inputs += [scalar(client, "stream", "BOOL", False), scalar(client, "exclude_input_in_output", "BOOL", True)]
    server.async_stream_infer(ADAPTER, inputs, request_id="whole")
    found["streams"]["whole"] = []
    while ends < 4:
        result, error = answers.get(timeout=30)
        if error is not None:
            found["stream_errors"].append(str(error))
            ends += 1
            continue
        response = result.get_response()
        found["streams"][response.id] += decoded(result, "text_output")
        ends += response.parameters["triton_final_response"].bool_param
    server.stop_stream()
    return found


def over_http(address):
    client = import_module("tritonclient.http")
    server, found = asked(client, address)
    index = server.get_model_repository_index()
    found["index"] = sorted(one["name"] for one in index)
    return found


def main(http, grpc, out):
    found = {"grpc": over_grpc(grpc)}
    try:
        import_module("tritonclient.http")
    except (ImportError, RuntimeError):
        found["http"] = None
    else:
        found["http"] = over_http(http)
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
