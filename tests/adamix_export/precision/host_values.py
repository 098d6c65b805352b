"""Copies that ONNX Runtime would put between host and device, found in a graph without a device.

It computes with sizes on the host: `Shape` and all operators that read nothing but what comes from it and constants.
Where an operator of the device reads such a number as data, a copy is inserted, and no run of the graph is captured.
"""

from pathlib import Path

import onnx

SIZES = {"Shape", "Size"}
READ_ON_HOST = {
    "ConstantOfShape": {0},
    "CumSum": {1},
    "Expand": {1},
    "GroupQueryAttention": {6},
    "OneHot": {1},
    "Pad": {1, 3},
    "Range": {0, 1, 2},
    "ReduceMax": {1},
    "ReduceMean": {1},
    "ReduceSum": {1},
    "Reshape": {1},
    "Slice": {1, 2, 3, 4},
    "Split": {1},
    "Squeeze": {1},
    "Tile": {1},
    "TopK": {1},
    "Trilu": {1},
    "Unsqueeze": {1},
}
"""Inputs that the kernel of a device reads on the host, by operator."""


def copies_of(file: Path) -> list[str]:
    """Return each operator of a graph's device that reads a number of the host as data, and the number's name."""
    graph = onnx.load(file, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer} | {
        node.output[0] for node in graph.node if node.op_type == "Constant"
    }
    host: set[str] = set()
    found = []
    for node in graph.node:
        read = READ_ON_HOST.get(node.op_type, set())
        data = [name for index, name in enumerate(node.input) if name and index not in read]
        from_host = [name for name in data if name in host]
        if node.op_type in SIZES or (from_host and all(name in host | constants for name in data)):
            host.update(node.output)
        else:
            found += [f"{node.op_type} {node.name} reads {name}" for name in from_host]
    return found
