"""Bundles with hostile content and right seals: each is refused in one line, or opens and answers.

A hash says that a file is whole, not that it makes sense. `hostile.py` replaces every value of every JSON file.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from serve.async_engine import AsyncEngine
from serve.bundle.adapter import WEIGHTS
from serve.bundle.manifest import MANIFEST, TOKENIZER, TOKENIZER_CONFIG
from serve.engines import make_engine
from serve.errors import BundleError
from tests.reliability.hostile import Mutation, copy, mutations, nested, rehash, reseal, sample
from tests.serve.conftest import edges_of

LONGEST_MESSAGE = 1000
SHORT = 60
"""Mutations of each bundle in the ordinary tests."""


def refusal(folder: Path) -> str | None:
    """Return the message with which a bundle is refused; None if it opens, and what it tells of itself is JSON."""
    try:
        engine = make_engine(folder, provider="cpu", threads=1)
        assert isinstance(engine, AsyncEngine)
        json.dumps([vars(model) for model in engine.models()], allow_nan=False).encode()
        json.dumps(dict(engine.codec(None).config)).encode()
    except BundleError as error:
        return str(error)
    return None


def check(folder: Path, scratch: Path, cases: Sequence[Mutation]) -> None:
    """Assert that each mutation is refused in one short line, or opens."""
    wrong = []
    for case in cases:
        case.apply(copy(folder, scratch / "mutated"))
        try:
            message = refusal(scratch / "mutated")
        except BaseException as error:
            wrong.append(f"{case}: {type(error).__name__}: {error}")
        else:
            if message is not None and ("\n" in message or len(message) > LONGEST_MESSAGE):
                wrong.append(f"{case}: {message[:200]}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(cases)}", *wrong[:40]])


@pytest.mark.parametrize("kind", ["classifier_folder", "generator_folder"])
def test_some_mutations_end_in_one_line(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(kind)
    check(folder, tmp_path, sample(folder, SHORT, seed=0))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["classifier_folder", "generator_folder"])
def test_every_mutation_ends_in_one_line(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(kind)
    check(folder, tmp_path, mutations(folder))


CARD = "adapters/tone/adapter.json"
REFUSED: tuple[tuple[Mutation, str], ...] = (
    (Mutation(CARD, ("max_length",), 0), "max_length is 0: expected 1 to"),
    (Mutation(CARD, ("max_length",), 10**9), "max_length is 1000000000: expected 1 to"),
    (Mutation(CARD, ("max_length",), True), "max_length is True: expected a whole number"),
    (Mutation(CARD, ("max_length",), 10**300), "max_length is a number of 997 bits: expected 1 to"),
    (Mutation(CARD, ("r",), -1), "r is -1: expected 0 to"),
    (Mutation(CARD, ("eos_token_ids",), [-1]), r"eos_token_ids\[0\] is -1: expected 0 to"),
    (Mutation(CARD, ("metrics", "accuracy"), float("nan")), "metrics is nan: expected a finite number"),
    (Mutation(CARD, ("labels",), ["\ud800", "x"]), r"labels\[0\] is '\\ud800': expected a text in valid Unicode"),
    (Mutation(CARD, ("labels",), ["one"]), "the canary rows of its card do not fit each other"),
    (Mutation(CARD, ("canary_logits",), []), "the canary rows of its card do not fit each other"),
    (Mutation(CARD, ("canary_token_type_ids",), [[0]]), "the canary rows of its card do not fit each other"),
    (Mutation(CARD, ("canary_ids", 0, 0), 10**6), "the canary rows of tone, intent cannot be run"),
    (Mutation(CARD, ("parity",), nested(100)), "is nested too deeply"),
    (Mutation(MANIFEST, ("spare_slots",), 10**9), "spare_slots is 1000000000: expected 0 to 65536"),
    (Mutation(MANIFEST, ("pad_token_id",), -2), "pad_token_id is -2: expected -1 to"),
    (Mutation(MANIFEST, ("base",), {}), "lacks name of base"),
    (Mutation(MANIFEST, ("adapters",), ["tone", "tone"]), "names an adapter twice"),
    (Mutation(MANIFEST, ("adapters",), ["../tone"]), "is no name for an adapter"),
    (Mutation(MANIFEST, ("adapters",), []), "names 0 adapters: a merged bundle has one, a bank at least one"),
    (Mutation(MANIFEST, ("shape",), "merged"), "names 2 adapters: a merged bundle has one"),
    (Mutation(MANIFEST, ("inputs", 0, "shape"), [-1]), r"inputs\[0\]: shape\[0\] is -1: expected 0 to"),
    (Mutation(MANIFEST, ("inputs",), []), r"model\.onnx does not have the inputs and outputs that the manifest lists"),
    (Mutation(MANIFEST, ("canary_tolerance",), 1e9), "canary_tolerance of 1e.09, which proves nothing: fp32 may have"),
    (Mutation(MANIFEST, ("canary_tolerance",), float("inf")), "canary_tolerance is inf: expected a finite number"),
    (Mutation(TOKENIZER, ("model",), {}), r"tokenizer\.json is no tokenizer"),
    (Mutation("config.json", ("vocab_size",), "many"), "vocab_size is 'many': expected a whole number or null"),
    (Mutation(TOKENIZER_CONFIG, ("chat_template",), [{}]), "chat_template has an entry without a name"),
)


@pytest.mark.parametrize(("case", "message"), REFUSED, ids=[str(case) for case, _ in REFUSED])
def test_what_is_out_of_bounds_is_named(case: Mutation, message: str, classifier_folder: Path, tmp_path: Path) -> None:
    folder = copy(classifier_folder, tmp_path / "mutated")
    case.apply(folder)
    with pytest.raises(BundleError, match=message):
        make_engine(folder, provider="cpu", threads=1)


@pytest.mark.parametrize("name", ["bundle.json", CARD, TOKENIZER_CONFIG])
def test_a_key_that_is_there_twice_is_refused(name: str, classifier_folder: Path, tmp_path: Path) -> None:
    """Readers differ in which of two values they take, and the checksum is of one of them."""
    folder = copy(classifier_folder, tmp_path / "twice")
    file = folder / name
    file.write_text(file.read_text().replace("{", '{"pad_token": 1, "pad_token": 1, ', 1))
    if name != MANIFEST:
        rehash(folder)
    with pytest.raises(BundleError, match=rf"{file.name} is damaged: an object has the same key twice"):
        make_engine(folder, provider="cpu", threads=1)


@pytest.mark.parametrize("content", ["[" * 200_000, '{"a":' * 200_000, "9" * 10_000, "\ufeff{}", "nul"])
def test_json_that_no_reader_takes_is_refused(content: str, classifier_folder: Path, tmp_path: Path) -> None:
    folder = copy(classifier_folder, tmp_path / "deep")
    for name in (TOKENIZER_CONFIG, MANIFEST):
        (folder / name).write_text(content)
        if name != MANIFEST:
            rehash(folder)
        message = refusal(folder)
        assert message is not None and f"{name} is damaged" in message


def one_type(file: Path) -> None:
    tensors = load_file(file)
    save_file({name: tensor.astype(np.float64) for name, tensor in tensors.items()}, file)


def one_axis(file: Path) -> None:
    save_file({name: tensor.ravel() for name, tensor in load_file(file).items()}, file)


def transposed(file: Path) -> None:
    save_file({name: np.ascontiguousarray(tensor.T) for name, tensor in load_file(file).items()}, file)


def unknown(file: Path) -> None:
    save_file({f"other.{name}": tensor for name, tensor in load_file(file).items()}, file)


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4])


def huge_header(file: Path) -> None:
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])


def infinite(file: Path) -> None:
    save_file({name: np.full_like(tensor, np.inf) for name, tensor in load_file(file).items()}, file)


def empty(file: Path) -> None:
    file.write_bytes(b"")


WEIGHTS_CHANGES: dict[Callable[[Path], None], str] = {
    one_type: r"has '.*' in float64: expected float32",
    one_axis: r"the graph takes",
    transposed: r"the graph takes",
    unknown: "which this bank's graph has no input for",
    half: "is not a safetensors file",
    huge_header: "is not a safetensors file",
    infinite: r"has a number in .* that is not finite",
    empty: "is not a safetensors file",
}


@pytest.mark.parametrize("change", WEIGHTS_CHANGES, ids=lambda change: change.__name__)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[Path], None], classifier_folder: Path, tmp_path: Path
) -> None:
    folder = copy(classifier_folder, tmp_path / "weights")
    change(folder / "adapters" / "tone" / WEIGHTS)
    reseal(folder)
    with pytest.raises(BundleError, match=WEIGHTS_CHANGES[change]):
        make_engine(folder, provider="cpu", threads=1)


def renamed(model: onnx.ModelProto, old: str, new: str) -> None:
    """Rename an edge of the graph wherever it is used."""
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def resized(model: onnx.ModelProto, name: str, *dims: int | str) -> None:
    """Declare other dimensions for an edge of the graph."""
    for value in (*model.graph.input, *model.graph.output):
        if value.name == name:
            del value.type.tensor_type.shape.dim[:]
            for dim in dims:
                field = "dim_value" if isinstance(dim, int) else "dim_param"
                setattr(value.type.tensor_type.shape.dim.add(), field, dim)


GRAPH_CHANGES: dict[str, tuple[str, Callable[[onnx.ModelProto], None]]] = {
    "an input that nothing feeds": ("classifier_folder", lambda model: renamed(model, "attention_mask", "other")),
    "no logits": ("classifier_folder", lambda model: renamed(model, "logits", "other")),
    "a bank of other names": ("classifier_folder", lambda model: renamed(model, "adapter_ids", "other")),
    "no logits of tokens": ("generator_folder", lambda model: renamed(model, "logits", "other")),
    "a cache that nothing feeds": ("generator_folder", lambda model: renamed(model, "past_key_values.0.key", "other")),
    "a cache that is not written": ("generator_folder", lambda model: renamed(model, "present.0.key", "other")),
    "a cache with an unknown dimension": (
        "generator_folder",
        lambda model: resized(model, "past_key_values.0.key", "batch", "heads", "max_length", 16),
    ),
    "a vocabulary without a size": ("generator_folder", lambda model: resized(model, "logits", "batch", 1, "words")),
    "logits of one axis": ("generator_folder", lambda model: resized(model, "logits", "batch")),
    "no graph": ("classifier_folder", lambda model: model.Clear()),
}


@pytest.mark.parametrize("change", GRAPH_CHANGES)
def test_a_graph_that_cannot_be_run_is_refused(change: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    kind, alter = GRAPH_CHANGES[change]
    folder = copy(request.getfixturevalue(kind), tmp_path / "graph")
    model = onnx.load(folder / "model.onnx")
    alter(model)
    onnx.save(model, folder / "model.onnx")
    for side, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        Mutation(MANIFEST, (side,), [vars(edge) for edge in edges_of(values)]).apply(folder)
    message = refusal(folder)
    assert message is not None and "\n" not in message
