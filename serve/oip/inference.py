"""One inference: from a model, texts and parameters to output tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from serve.engine import ClassificationEngine, Engine, GenerationEngine
from serve.errors import InputError
from serve.generated_text import GenerationResult
from serve.oip.classification import classify_texts
from serve.oip.elements import Tensor
from serve.oip.generation import generate_texts, generation_request
from serve.oip.models import Model, check_version
from serve.oip.outputs import tensors_of
from serve.prediction import Prediction


@dataclass(frozen=True, kw_only=True)
class Inference:
    """The answer to a request."""

    version: str
    """That of the weights which answered; empty for the bank."""
    tensors: dict[str, Tensor]
    """The outputs that were asked for, by name."""
    answers: Sequence[Prediction | GenerationResult]


async def run_inference(
    engine: Engine,
    model: Model,
    inputs: Mapping[str, Sequence[str]],
    parameters: Mapping[str, Any],
    outputs: Sequence[str],
    *,
    version: str | None,
    limit: int,
) -> Inference:
    """Classify the rows of a request, or generate texts for them.

    Args:
        engine: The engine that has the model.
        model: One of `models_of(engine)`.
        inputs: Texts by the name of their tensor.
        parameters: Those of `classification.OPTIONS`, or of `parameters.KNOWN`.
        outputs: Names of the tensors to return; none asks for all.
        version: The version of the weights that shall answer; None for any.
        limit: Most rows.

    Raises:
        UnknownAdapter: The weights were replaced meanwhile by another version.
        InputError: An input, a parameter or an output is not known, or has the wrong type or size.
        The errors of `engine.classify` and `engine.generate`.
    """
    names = checked_outputs(model, outputs)
    check_inputs(model, inputs, limit=limit)
    answers: Sequence[Prediction | GenerationResult]
    if model.generates:
        asked = generation_request(model, inputs[model.inputs[0]], parameters, limit=limit)
        answers = await generate_texts(cast(GenerationEngine, engine), model, asked, version=version)
        tensors = {name: model.outputs[name].tensor(answers, False) for name in names}
    else:
        predictions, raw = await classify_texts(
            cast(ClassificationEngine, engine), model, inputs, parameters, limit=limit
        )
        answers, tensors = predictions, tensors_of(predictions, names, raw=raw)
    return Inference(version=check_version(model, answers[0].sha256, version), tensors=tensors, answers=answers)


def checked_outputs(model: Model, outputs: Sequence[str]) -> list[str]:
    """Return the names of the outputs that are asked for; raise an InputError if the model does not have one."""
    for name in outputs:
        if name not in model.outputs:
            raise InputError(f"model {model.name!r} has no output {name!r}; it has {', '.join(model.outputs)}")
    return list(outputs or model.outputs)


def check_inputs(model: Model, inputs: Mapping[str, Sequence[str]], *, limit: int) -> None:
    """Raise an InputError unless the inputs are those of the model, with 1 to `limit` rows each."""
    for name in inputs:
        if name not in model.inputs:
            raise InputError(f"model {model.name!r} has no input {name!r}; it has {', '.join(model.inputs)}")
    first = model.inputs[0]
    if not inputs.get(first):
        raise InputError(f"there is no text: send the input {first!r}, of BYTES")
    texts = inputs[first]
    if len(texts) > limit:
        raise InputError(f"input {first!r} has {len(texts)} texts; at most {limit} go into one request")
    for name, values in inputs.items():
        if len(values) != len(texts):
            raise InputError(f"input {name!r} has {len(values)} rows, and {first!r} has {len(texts)}")
