"""Export of models that predict a label or a score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.parity.examples import files_exist, parity_examples
from adamix_export.parity.probes import probe_rows, require_equal
from adamix_export.parity.report import Parity
from adamix_export.precision.calibration import CalibrationText
from adamix_export.tracing import encoder
from adamix_export.tracing.stacks import Stacks
from adamix_train.data.examples import Example
from adamix_train.data.splits import read_all, task_of
from adamix_train.metrics.table import METRICS
from adamix_train.recipe.recipe import Recipe
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.requests import Text

CANARIES = (
    "Everything arrived on time and works as it should, thank you.",
    "It broke on the second day and nobody answers my letters.",
    "Where can I change the address on my invoice?",
    "no",
)
"""Texts stored in every bundle, as token ids, with PyTorch's logits for them."""
REFERENCE_BATCH_SIZE = 32
Array = NDArray[Any]
TextTuples = Sequence[tuple[str, ...]]
"""Inputs as training examples hold them: a tuple of one text, or of two for a pair."""


@dataclass(frozen=True, kw_only=True)
class OutputKind:
    """The meaning of a model's outputs."""

    targets: Callable[[Checkpoint, Sequence[Example]], Array]
    """Returns the targets (examples,) that the metric compares the outputs with."""
    equal: Callable[[Array, Array, float], Array]
    """Takes both sides' logits (inputs, labels) and the tolerance; returns which inputs have equal results."""
    values: Callable[[Array], Array]
    """Returns of logits (inputs, labels) what an ensemble averages."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The inputs that one checkpoint is compared on: labelled examples, and the canary texts after them."""

    checkpoint: Checkpoint
    examples: Sequence[Example]
    data: str
    """Names of the files that the examples are from."""

    @property
    def inputs(self) -> TextTuples:
        """All inputs in order."""
        return [example.texts for example in self.examples] + canary_texts(self.checkpoint)


def canaries(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the token ids of the canary texts and PyTorch's logits for them, each computed in a batch of one."""
    texts: TextTuples = canary_texts(checkpoint)
    inputs = _encode(checkpoint, texts)
    return {
        "canary_ids": inputs["input_ids"],
        "canary_token_type_ids": inputs.get("token_type_ids", []),
        "canary_logits": [logits(checkpoint, [text])[0].tolist() for text in texts],
    }


def canary_texts(checkpoint: Checkpoint) -> list[tuple[str, ...]]:
    """Return the canary texts, paired with the next one each if the checkpoint takes pairs."""
    nexts = (*CANARIES[1:], CANARIES[0])
    return list(zip(CANARIES, nexts, strict=True) if checkpoint.pairs else zip(CANARIES, strict=True))


def write_graph(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stacks: Stacks | None, file: Path) -> None:
    """Write the graph of an encoder with its head."""
    encoder.write_graph(model, list(tokenizer.model_input_names), stacks, file)


def calibration_texts(checkpoint: Checkpoint, file: Path | None, count: int) -> list[CalibrationText]:
    """Return about `count` inputs spread evenly over a file, and the canary and probe texts after them.

    Without `file` they are from the run's training data; where that is not available there are the built-in texts
    alone.
    """
    recipe = Recipe(**checkpoint.card.recipe)
    files = str(file) if file else recipe.train_file or ""
    examples = read_all(files, task_of(recipe)) if file or (files and files_exist(files)) else []
    chosen = [example.texts for example in examples[:: -(-len(examples) // count) or 1]]
    inputs = _encode(checkpoint, [*chosen, *canary_texts(checkpoint), *probe_rows(checkpoint)])
    types = inputs.get("token_type_ids", [()] * len(inputs["input_ids"]))
    return [CalibrationText(ids=ids, token_type_ids=own) for ids, own in zip(inputs["input_ids"], types, strict=True)]


def compare(checkpoints: Sequence[Checkpoint], bundle: Bundle, check: Check) -> dict[str, Parity]:
    """Return a report for every checkpoint; in a bank the inputs of all checkpoints share batches.

    Probe texts, which are in no data, count in the largest difference alone.

    Raises:
        ParityError: The bundle tokenizes an input differently from training.
    """
    classifier = Classifier(bundle, provider="cpu")
    cases = [_case(checkpoint, check) for checkpoint in checkpoints]
    for case in cases:
        _require_equal_tokens(case, classifier)
    names = [case.checkpoint.name for case in cases for _ in case.inputs]
    texts = [_as_served(text) for case in cases for text in case.inputs]
    predictions = iter(classifier(texts, adapter=names))
    found = {case.checkpoint.name: np.stack([next(predictions).logits for _ in case.inputs]) for case in cases}
    reports = {}
    for case in cases:
        report = _report(case, found[case.checkpoint.name], classifier, check)
        reports[case.checkpoint.name] = replace(report, ensemble=_ensemble(case, cases, found))
        case.checkpoint.forget_reference()  # each is a whole base
    return reports


def logits(checkpoint: Checkpoint, texts: TextTuples) -> NDArray[np.float32]:
    """Return PyTorch's logits (texts, labels), with the tokenizer of transformers."""
    batches = []
    # T5 refuses texts that differ in their end-of-sequence tokens in one batch
    size = 1 if checkpoint.reference.config.is_encoder_decoder else REFERENCE_BATCH_SIZE
    for start in range(0, len(texts), size):
        batch = texts[start : start + size]
        inputs = _encode(checkpoint, batch, padding=True, return_tensors="pt")
        with torch.inference_mode():
            batches.append(checkpoint.reference(**inputs).logits.numpy())
    return np.concatenate(batches)


def _case(checkpoint: Checkpoint, check: Check) -> Case:
    examples, data = parity_examples(checkpoint, check)
    return Case(checkpoint=checkpoint, examples=examples, data=data)


def _require_equal_tokens(case: Case, classifier: Classifier) -> None:
    inputs = [*case.inputs, *probe_rows(case.checkpoint)]
    expected, name = _encode(case.checkpoint, inputs), case.checkpoint.name
    for index, texts in enumerate(inputs):
        found = classifier.encode(_as_served(texts), name, truncate=True)
        require_equal(name, texts, found.input_ids, expected["input_ids"][index])
        if "token_type_ids" in expected:
            require_equal(name, texts, found.token_type_ids, expected["token_type_ids"][index])


def _probe_difference(checkpoint: Checkpoint, classifier: Classifier) -> float:
    """Return the largest difference of a probe's logits; probes share no batch with the data."""
    probes = probe_rows(checkpoint)
    predictions = classifier([_as_served(texts) for texts in probes], adapter=checkpoint.name)
    return _difference(np.stack([one.logits for one in predictions]), logits(checkpoint, probes))


def _difference(found: Array, expected: Array) -> float:
    """Return the largest difference of a logit; infinite if one is not finite."""
    return float(np.abs(found - expected).max()) if np.isfinite(found).all() else float("inf")


def _report(case: Case, found: Array, classifier: Classifier, check: Check) -> Parity:
    """Compare ONNX Runtime's logits (inputs, labels) with PyTorch's."""
    expected = logits(case.checkpoint, case.inputs)
    outputs = OUTPUT_KINDS[case.checkpoint.objective_name]
    targets = outputs.targets(case.checkpoint, case.examples)
    metric = METRICS[case.checkpoint.card.metric]
    return Parity(
        rows=len(found),
        labelled=len(targets),
        data=case.data,
        max_difference=max(_difference(found, expected), _probe_difference(case.checkpoint, classifier)),
        equal_labels=float(outputs.equal(found, expected, check.bounds.tolerance).mean()),
        metric=case.checkpoint.card.metric,
        pytorch=metric(expected[: len(targets)], targets) if len(targets) else None,
        onnx=metric(found[: len(targets)], targets) if len(targets) else None,
        provider=classifier.provider,
        bounds=check.bounds,
        spread=float(expected.std(0).max()),
    )


def _ensemble(case: Case, cases: Sequence[Case], found: Mapping[str, Array]) -> float | None:
    """Return the metric of the mean of the outputs of a mixture's modules; None where they are not compared as well."""
    members = [found[one.checkpoint.name] for one in cases if one.checkpoint.member_of == case.checkpoint.name]
    if not members or not case.examples:
        return None
    outputs = OUTPUT_KINDS[case.checkpoint.objective_name]
    targets = outputs.targets(case.checkpoint, case.examples)
    mean = np.mean([outputs.values(one[: len(targets)]) for one in members], axis=0)
    return METRICS[case.checkpoint.card.metric](mean, targets)


def _encode(checkpoint: Checkpoint, texts: TextTuples, **options: Any) -> Any:
    """Tokenize as in training."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    return checkpoint.tokenizer(*columns, truncation=True, max_length=checkpoint.card.max_length, **options)


def _as_served(text: tuple[str, ...]) -> Text:
    return text[0] if len(text) == 1 else (text[0], text[1])


def _label_indices(checkpoint: Checkpoint, examples: Sequence[Example]) -> Array:
    return np.array([checkpoint.card.labels.index(example.target) for example in examples], np.int64)


def _scores(checkpoint: Checkpoint, examples: Sequence[Example]) -> Array:
    return np.array([float(example.target) for example in examples])


OUTPUT_KINDS: dict[str, OutputKind] = {
    "classification": OutputKind(
        targets=_label_indices,
        equal=lambda found, expected, tolerance: found.argmax(-1) == expected.argmax(-1),
        values=lambda logits: softmax(logits, axis=-1),
    ),
    "regression": OutputKind(
        targets=_scores,
        equal=lambda found, expected, tolerance: np.abs(found - expected)[:, 0] <= tolerance,
        values=lambda logits: logits,
    ),
}
"""Output kinds by training objective."""
