from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.roofline import COPIED, COPY, findings_of, read_by_a_step, weights_read
from benchmarks.support.generation_sides import Ours
from benchmarks.support.rounds import Timing
from serve.bundle.manifest import Edge
from serve.runtime.providers import usable_cores


def weight(name: str, dtype: int, *shape: int) -> onnx.TensorProto:
    return onnx.TensorProto(name=name, data_type=dtype, dims=shape)


def model(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(nodes, "graph", [], [], weights))


def test_a_step_reads_weights_whole_and_rows_of_tables() -> None:
    graph = model(
        [
            helper.make_node("Gather", ["table", "ids"], ["x"]),
            helper.make_node("MatMul", ["x", "square"], ["y"]),
            helper.make_node("Gather", ["tied", "ids"], ["z"]),
            helper.make_node("MatMul", ["y", "tied"], ["w"]),
            helper.make_node("MatMulNBits", ["w", "quarter"], ["v"]),
        ],
        [
            weight("table", TensorProto.FLOAT, 100, 8),
            weight("square", TensorProto.FLOAT, 8, 8),
            weight("tied", TensorProto.FLOAT, 10, 8),
            weight("quarter", TensorProto.UINT8, 50),
            weight("unused", TensorProto.FLOAT, 1000),
        ],
    )
    assert weights_read(graph, 2) == 2 * 8 * 4 + 64 * 4 + 80 * 4 + 50


def test_four_bit_weights_are_half_a_byte_each() -> None:
    graph = model(
        [
            helper.make_node("GatherBlockQuantized", ["table", "ids", "scales"], ["x"]),
            helper.make_node("MatMul", ["x", "square"], ["y"]),
        ],
        [
            weight("table", TensorProto.UINT4, 10, 64),
            weight("scales", TensorProto.FLOAT, 10, 2),
            weight("square", TensorProto.INT4, 8, 8),
        ],
    )
    scales = 10 * 2 * 4
    assert weights_read(graph, 3) == 3 * 32 + scales + 32


def test_a_step_reads_the_cache_as_it_is_halfway_through_the_texts(tmp_path: Path) -> None:
    onnx.save(
        model([helper.make_node("MatMul", ["x", "square"], ["y"])], [weight("square", TensorProto.FLOAT, 8, 8)]),
        tmp_path / "model.onnx",
    )
    inputs = [
        Edge(name="input_ids", dtype="tensor(int64)", shape=["batch", "sequence"]),
        Edge(name="past_key_values.0.key", dtype="tensor(float)", shape=["batch", 2, "max_length", 8]),
        Edge(name="past_key_values.0.value", dtype="tensor(float16)", shape=["batch", 2, "max_length", 8]),
    ]
    bundle: Any = SimpleNamespace(model=tmp_path / "model.onnx", manifest=SimpleNamespace(inputs=inputs))
    length = 32 + 16
    assert read_by_a_step(bundle, 3) == 8 * 8 * 4 + 3 * 2 * length * 8 * (4 + 2)


@pytest.mark.slow
def test_the_cache_counts_for_what_a_step_reads(ours: Ours) -> None:
    one, two = (read_by_a_step(ours.generator.bundle, rows) for rows in (1, 2))
    assert 0 < two - one < one


def copy_at(gb_a_second: float) -> Timing:
    return Timing([2 * COPIED * usable_cores() / (gb_a_second * 1e9)])


def test_a_step_is_held_against_a_copy() -> None:
    sides = {"fp32, 1 rows": Timing([0.1]), COPY: copy_at(10)}
    (goal,) = findings_of({"fp32, 1 rows": sides}, {"fp32, 1 rows": 700_000_000}).goals
    assert (goal.value, goal.met) == (pytest.approx(0.7), True)


def test_steps_of_several_rows_are_in_the_table_and_no_goals() -> None:
    moved = {"fp32, 1 rows": 700_000_000, "fp32, 8 rows": 100_000_000, "int4, 1 rows": 500_000_000}
    findings = findings_of({name: {name: Timing([0.1]), COPY: copy_at(10)} for name in moved}, moved)
    assert [(row["case"], row["share"]) for row in findings.rows] == [
        ("fp32, 1 rows", pytest.approx(0.7)),
        ("fp32, 8 rows", pytest.approx(0.1)),
        ("int4, 1 rows", pytest.approx(0.5)),
    ]
    assert [goal.met for goal in findings.goals] == [True, False]
    assert findings.worst == "0.500 (int4, 1 rows: bytes a second by those of a copy)"
