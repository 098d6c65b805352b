"""Export of models that write, be it in one stack (causal) or from an encoder (sequence to sequence)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.checkpoint.checkpoint import Source
from adamix_export.parity.comparison import PERPLEXITY, Check, Parity, are_there, parity_examples
from adamix_export.parity.probes import probe_texts, require_equal
from adamix_export.tracing import decoder, encoder_decoder
from adamix_export.tracing.bank import Stacks
from adamix_train.data.encoding import Encoding, shortened_prompt, shortened_source
from adamix_train.data.splits import read_all, task_of
from adamix_train.evaluation.generate import make_prompts
from adamix_train.recipe.recipe import Recipe
from serve.bundle.manifest import ENCODER
from serve.bundle.reader import Bundle
from serve.errors import InputError
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt

CANARIES = ("name[Blue Spice], food[Italian]", "Where can I change the address on my invoice?", "no")
"""Inputs of our own: they go into every bundle, as token ids."""
CANARY_TOKENS = 8
ROWS = 8
"""Compared at a time: logits of every token are large."""
T = TypeVar("T")
Tokens = list[list[int]]
Logits = list[NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a model that writes is laid out."""

    encoder_decoder: bool
    shorten: Callable[[list[int], int], list[int]]
    """Takes a prompt and the most tokens it may have."""
    target: Callable[[PreTrainedTokenizerBase, str], list[int]]
    """Returns the tokens of a text to be written, without its end."""
    logits: Callable[[Source, Sequence[Sequence[int]], Sequence[Sequence[int]]], Logits]
    """Takes prompts and tokens; returns PyTorch's logits (tokens, vocabulary) before each token, in one batch."""


def canaries(form: Form, source: Source) -> dict[str, Any]:
    """Return prompts of a few inputs, what PyTorch writes after them, and the logits of those tokens."""
    recipe = Recipe(**source.card.recipe)
    template = task_of(recipe).prompt
    prompts = [
        form.shorten(source.tokenizer(template.replace("{input}", text))["input_ids"], source.card.max_length)
        for text in CANARIES
    ]
    tokens: Tokens = [[] for _ in prompts]
    logits: Logits = []
    for _ in range(CANARY_TOKENS):
        logits = form.logits(source, prompts, [[*row, 0] for row in tokens])
        tokens = [[*row, int(found[-1].argmax())] for row, found in zip(tokens, logits, strict=True)]
    ends = source.reference.generation_config.eos_token_id
    return {
        "canary_ids": prompts,
        "canary_tokens": tokens,
        "canary_logits": [found[range(len(row)), row].tolist() for row, found in zip(tokens, logits, strict=True)],
        "prompt": template,
        "eos_token_ids": sorted(
            {source.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        ),
    }


def write_decoder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stacks: Stacks | None, file: Path
) -> None:
    """Write the graph of a decoder."""
    decoder.write_graph(model, stacks, file)


def write_encoder_decoder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stacks: Stacks | None, file: Path
) -> None:
    """Write the graph of a decoder and, beside it, that of its encoder."""
    encoder_decoder.write_graphs(model, stacks, file.with_name(ENCODER), file)


def compare(form: Form, sources: Sequence[Source], bundle: Bundle, check: Check) -> dict[str, Parity]:
    """Return the report of every source: greedy tokens, their logits, and the perplexity of the data's own texts.

    PyTorch is given what the bundle wrote: if each token is the likeliest after those before, PyTorch writes the same.
    """
    generator = Generator(bundle, provider="cpu")
    return {source.name: _compare(form, source, generator, check) for source in sources}


def passages(source: Source, file: Path | None, count: int) -> list[list[int]]:
    """Return `count` prompts with their texts, from all over a file, or over the one that the run was trained on."""
    recipe = Recipe(**source.card.recipe)
    files = str(file) if file else recipe.train_file
    if not files or not (file or are_there(files)):
        return []
    encoding = Encoding(tokenizer=source.tokenizer, max_length=source.card.max_length, prompt=task_of(recipe).prompt)
    prompts = make_prompts(read_all(files, task_of(recipe)), encoding, encoder_decoder=False)
    chosen = prompts[:: -(-len(prompts) // count)]
    return [[*one.ids, *CAUSAL.target(source.tokenizer, one.references[0])] for one in chosen]


def _compare(form: Form, source: Source, generator: Generator, check: Check) -> Parity:
    recipe = Recipe(**source.card.recipe)
    examples, origin = parity_examples(source, replace(check, limit=None))
    encoding = Encoding(tokenizer=source.tokenizer, max_length=source.card.max_length, prompt=task_of(recipe).prompt)
    data = make_prompts(examples, encoding, encoder_decoder=form.encoder_decoder)[: check.limit]
    inputs = [encoding.input(example) for example in examples[: check.limit]]
    _require_equal_prompts(form, source, generator, encoding, [*inputs, *probe_texts(source)])
    adapter = generator.registry.find(source.name)
    card = adapter.card
    prompts = [Prompt(ids, adapter) for ids in (*(one.ids for one in data), *card.canary_ids)]
    differences, equal = _differences(form, source, generator, prompts, recipe.max_new_tokens)
    texts = [form.target(source.tokenizer, one.references[0])[: recipe.max_new_tokens] for one in data]
    losses = _losses(form, source, generator, prompts[: len(data)], texts) if data else None
    return Parity(
        rows=len(prompts),
        data=origin,
        max_difference=max(differences),
        equal_labels=sum(equal) / len(equal),
        metric=PERPLEXITY,
        pytorch=float(np.exp(losses[0])) if losses else None,
        onnx=float(np.exp(losses[1])) if losses else None,
        provider=generator.provider,
        bounds=check.bounds,
    )


def _require_equal_prompts(
    form: Form, source: Source, generator: Generator, encoding: Encoding, texts: Sequence[str]
) -> None:
    """Raise an error if the bundle makes another prompt of an input than training did."""
    for text in texts:
        expected = source.tokenizer(encoding.prompt.replace("{input}", text))["input_ids"]
        try:
            found = generator.prompt(text, source.name).input_ids
        except InputError:  # training takes texts that serving refuses, such as an empty one
            continue
        require_equal(source.name, [text], found, form.shorten(expected, encoding.max_length))


def _differences(
    form: Form, source: Source, generator: Generator, prompts: Sequence[Prompt], max_new_tokens: int
) -> tuple[list[float], list[bool]]:
    """Return, for each prompt, the largest difference of a logit and whether PyTorch would have written the same."""
    differences, equal = [], []
    ends = set(generator.cards[source.name].eos_token_ids)
    for batch in _batches(sorted(prompts, key=lambda prompt: len(prompt.input_ids))):
        tokens, found = generator.greedy_logits(batch, max_new_tokens=max_new_tokens)
        expected = form.logits(source, [prompt.input_ids for prompt in batch], tokens)
        for row, here, there in zip(tokens, found, expected, strict=True):
            differences.append(float(np.abs(here - there).max()) if np.isfinite(here).all() else float("inf"))
            chosen = there.argmax(-1).tolist()
            equal.append(all(one == other or {one, other} <= ends for one, other in zip(chosen, row, strict=True)))
    return differences, equal


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield as many as are compared at a time."""
    for start in range(0, len(items), ROWS):
        yield items[start : start + ROWS]


def _losses(
    form: Form, source: Source, generator: Generator, prompts: Sequence[Prompt], texts: Tokens
) -> tuple[float, float]:
    """Return the mean cross-entropy of the tokens of `texts` in PyTorch and in the bundle."""
    sums = np.zeros(2)
    pairs = sorted(zip(prompts, texts, strict=True), key=lambda pair: len(pair[0].input_ids) + len(pair[1]))
    for some in _batches(pairs):
        batch, rows = [prompt for prompt, _ in some], [text for _, text in some]
        sides = (
            form.logits(source, [prompt.input_ids for prompt in batch], rows),
            generator.forced_logits(batch, rows),
        )
        for side, found in enumerate(sides):
            for row, logits in zip(rows, found, strict=True):
                shifted = logits - logits.max(-1, keepdims=True)
                sums[side] += float((np.log(np.exp(shifted).sum(-1)) - shifted[range(len(row)), row]).sum())
    count = sum(map(len, texts))
    return sums[0] / count, sums[1] / count


def _causal_logits(source: Source, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Logits:
    rows = [[*prompt, *row] for prompt, row in zip(prompts, tokens, strict=True)]
    with torch.inference_mode():
        first = min(len(prompt) for prompt in prompts) - 1
        kept = torch.arange(first, max(map(len, rows)))  # logits of a whole vocabulary are large
        logits = source.reference(**_padded(source, rows), logits_to_keep=kept).logits
    starts = [len(prompt) - 1 - first for prompt in prompts]
    return [
        logits[index, start : start + len(row)].numpy()
        for index, (start, row) in enumerate(zip(starts, tokens, strict=True))
    ]


def _seq2seq_logits(source: Source, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Logits:
    start = source.reference.config.decoder_start_token_id
    decoder = _padded(source, [[start, *row[:-1]] for row in tokens])
    with torch.inference_mode():
        logits = source.reference(
            **_padded(source, prompts),
            decoder_input_ids=decoder["input_ids"],
            decoder_attention_mask=decoder["attention_mask"],
        ).logits
    return [logits[index, : len(row)].numpy() for index, row in enumerate(tokens)]


def _padded(source: Source, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    return {**source.tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")}


CAUSAL = Form(
    encoder_decoder=False,
    shorten=shortened_prompt,
    target=lambda tokenizer, text: tokenizer(" " + text, add_special_tokens=False)["input_ids"],
    logits=_causal_logits,
)
SEQ2SEQ = Form(
    encoder_decoder=True,
    shorten=shortened_source,
    target=lambda tokenizer, text: tokenizer(text_target=text, add_special_tokens=False)["input_ids"],
    logits=_seq2seq_logits,
)
