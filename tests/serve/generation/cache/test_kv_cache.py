"""The cache's buffers: what lies in them stays when they grow and shrink, on the host and on a device."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from serve.bundle.graph_io import PAST, PRESENT
from serve.bundle.manifest import Edge
from serve.errors import Overloaded
from serve.generation.cache.kv_cache import KVCache
from serve.runtime.buffers import BUFFERS, Buffers, DeviceBuffers, HostBuffers
from serve.runtime.device_memory import CUDA_DEVICE, HOST
from serve.runtime.providers import CPU, CUDA

EDGES = [
    Edge(name="0.key", dtype="tensor(float)", shape=["batch", 2, "max_length", 3]),
    Edge(name="0.value", dtype="tensor(float16)", shape=["batch", 2, "max_length", 3]),
]
BOUND = 60
NEEDS = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 20)).filter(lambda pair: pair[0] * pair[1] <= BOUND))
PROVIDERS = {HOST: [CPU], CUDA_DEVICE: [CUDA]}
MEMORIES = [
    pytest.param((HostBuffers, HOST), id="host"),
    pytest.param((DeviceBuffers, HOST), id="addresses on the CPU"),
    pytest.param((DeviceBuffers, CUDA_DEVICE), id="GPU", marks=pytest.mark.gpu),
]


@pytest.fixture(params=MEMORIES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of a device, with the memory that it has."""
    memory, name = request.param
    monkeypatch.setitem(BUFFERS, name, memory)
    return str(name)


def cache(device: str) -> KVCache:
    return KVCache(EDGES, token_symbol="max_length", max_tokens=BOUND, step=4, device=device)


def states(seed: int, tokens: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    types = {"0.key": np.float32, "0.value": np.float16}
    return {name: random.normal(size=(2, tokens, 3)).astype(dtype) for name, dtype in types.items()}


def negate(device: str) -> ort.InferenceSession:
    """Return a graph that gives the negative of what it reads."""
    kinds = {"tensor(float)": TensorProto.FLOAT, "tensor(float16)": TensorProto.FLOAT16}
    nodes, inputs, outputs = [], [], []
    for edge in EDGES:
        past, present, kind = PAST + edge.name, PRESENT + edge.name, kinds[edge.dtype]
        nodes += [
            helper.make_node("Cast", [past], [f"{past}.full"], to=TensorProto.FLOAT),
            helper.make_node("Neg", [f"{past}.full"], [f"{past}.negative"]),
            helper.make_node("Cast", [f"{past}.negative"], [present], to=kind),
        ]
        inputs.append(helper.make_tensor_value_info(past, kind, edge.shape))
        outputs.append(helper.make_tensor_value_info(present, kind, edge.shape))
    graph = helper.make_graph(nodes, "negate", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), providers=PROVIDERS[device])


def holds(made: KVCache, row: int, expected: dict[str, np.ndarray], tokens: int) -> None:
    found = made.read(row, tokens)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name][:, :tokens])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(needs=NEEDS)
def test_there_is_room_for_what_is_in_use_and_never_more_than_the_bound(
    needs: list[tuple[int, int]], device: str
) -> None:
    made = cache(device)
    before: tuple[int, int] = (0, 0)
    for number, (rows, tokens) in enumerate(needs):
        made.reserve(rows, tokens)
        assert rows <= made.rows and tokens <= made.tokens and made.rows * made.tokens <= BOUND
        for row in range(min(before[0], rows)):
            holds(made, row, states(number - 1 + row, before[1]), min(before[1], tokens))
        for row in range(rows):
            made.write(row, states(number + row, tokens), tokens)
        before = rows, tokens


def test_what_was_needed_before_is_kept_while_there_is_room(device: str) -> None:
    made = cache(device)
    made.reserve(2, 20)
    made.reserve(3, 5)
    assert (made.rows, made.tokens) == (3, 20)
    made.reserve(5, 5)
    assert (made.rows, made.tokens) == (5, 8)


def test_a_row_moves_and_is_cleared(device: str) -> None:
    made = cache(device)
    made.reserve(3, 4)
    for row in range(3):
        made.write(row, states(row, 4), 4)
    made.move(2, 0, 3)
    holds(made, 0, states(2, 4), 3)
    holds(made, 1, states(1, 4), 4)
    made.clear(2)
    assert not any(array.any() for array in made.read(2, 4).values())
    holds(made, 1, states(1, 4), 4)


def test_a_run_writes_into_the_rows_that_it_is_given_and_no_others(device: str) -> None:
    """A run that negates the two rows in the middle, in place."""
    made = cache(device)
    made.reserve(4, 4)
    for row in range(4):
        made.write(row, states(row, 4), 4)
    negation = negate(device)
    binding = negation.io_binding()
    made.bind(binding, 1, 2)
    negation.run_with_iobinding(binding)
    for row in range(4):
        expected = states(row, 4)
        if row in (1, 2):
            expected = {name: -array for name, array in expected.items()}
        holds(made, row, expected, 4)


@pytest.mark.parametrize(
    "memory, allocate", [(HostBuffers, (np, "zeros")), (DeviceBuffers, (ort.OrtValue, "ortvalue_from_shape_and_type"))]
)
def test_memory_that_is_not_there_is_one_error_and_changes_nothing(
    memory: type[Buffers], allocate: tuple[object, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUFFERS, HOST, memory)
    made = cache(HOST)
    made.reserve(1, 4)
    before = made.buffers

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(*allocate, full)
    with pytest.raises(Overloaded, match="no memory for 2 rows of 8 tokens"):
        made.reserve(2, 8)
    assert made.buffers is before and (made.rows, made.tokens) == (1, 4)
