import pytest

from adamix_export.passes import simplify as simplify_module
from adamix_export.passes.simplify import RULES, undo_reshapes, unused_rules
from tests.adamix_export.passes.graphs import STATES, made, matrix, model_of, value


def test_reshapes_that_lead_back_are_left_out() -> None:
    x = value("x", *STATES)
    shapes = [matrix("split", 4), matrix("join", 3)]
    split = made(x, shapes[0], op_type="Reshape", shape=("batch", "sequence", 2, 2))
    join = made(split.outputs[0], shapes[1], op_type="Reshape", shape=STATES)
    other = made(split.outputs[0], matrix("flat", 2), op_type="Reshape", shape=("batch", "else"))
    used = made(join.outputs[0], op_type="Relu", shape=STATES)
    kept = made(other.outputs[0], op_type="Relu", shape=("batch", "else"))
    model = model_of([x], [used.outputs[0], kept.outputs[0]], split, join, other, used, kept)
    undo_reshapes(model)
    assert used.inputs[0] is x
    assert kept.inputs[0] is other.outputs[0]


def test_rules_that_other_code_has_used_are_used_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(rules: object) -> object:
        raise TypeError("Opset.__new__() missing 2 required positional arguments")

    assert unused_rules() is not RULES
    monkeypatch.setattr(simplify_module, "deepcopy", refuse)
    assert unused_rules() is RULES
