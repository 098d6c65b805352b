"""The generation engine: prompts in, texts out, each through an adapter of its own.

Texts are written by the `Engine` of continuous batching, which all callers share. `Rows` is the plain way, a batch of
prompts from the first token to the last: what an export and the canary rows look at.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serve.adapters.bank import Bank
from serve.adapters.base_adapter import BASE, _base
from serve.adapters.registry import Registry
from serve.bundle.adapter import Adapter, AdapterCard
from serve.bundle.reader import Bundle, open_bundle
from serve.classification.text_tokenizer import check_known, encode
from serve.errors import BundleError, InputError, Overloaded
from serve.generation.detokenizer import TextStream
from serve.generation.limits import Pool
from serve.generation.prompts import Prompt
from serve.generation.request import Generation, cancel
from serve.generation.result import Written, one_answer, written
from serve.generation.sampling.params import GREEDY, Sampling
from serve.generation.sampling.schema_trials import CompileBudget
from serve.generation.sampling.structured_output import Grammar, Guides
from serve.generation.scheduler import Engine
from serve.generation.static_batch import Rows
from serve.generation.token_decoder import token_decoders
from serve.runtime.buffers import CUDA_DEVICE, HOST
from serve.runtime.graph_check import check_edges, session_edges
from serve.runtime.providers import CUDA, choose_provider
from serve.runtime.session import open_session

CANARY_TOLERANCE = 1e-2
"""Largest difference of a canary token's logit from PyTorch's, on any provider, in fp32; a bundle may state more."""
REPLACEMENT = "\ufffd"
"""What bytes are decoded to that are no character."""


class Generator:
    """A bundle, ready to write; any number of threads may call it, and their texts are written together.

    Opening it runs every adapter's canary rows and compares: an adapter that does not give what it gave in PyTorch is
    not served.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        provider: str = "auto",
        threads: int | None = None,
        slots: int | None = None,
        held: int | None = None,
        cache: Path | None = None,
        pool: Pool | None = None,
        budget: CompileBudget | None = None,
    ) -> None:
        """Open a bundle, or the one in a folder; `slots`, `held` and `cache` are those of a `Classifier`.

        `pool` bounds what is in flight, `budget` the work on a JSON schema.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))
        manifest, choice = self.bundle.manifest, choose_provider(provider)
        self.session = open_session(
            self.bundle.model, choice, threads=threads, cache=cache, hashes=self.bundle.hashes(self.bundle.model)
        )
        check_edges(self.session, self.bundle)
        self.encoder: ort.InferenceSession | None = None
        if self.bundle.encoder is not None:
            hashes = self.bundle.hashes(self.bundle.encoder)
            self.encoder = open_session(self.bundle.encoder, choice, threads=threads, cache=cache, hashes=hashes)
            if session_edges(self.encoder) != (manifest.encoder_inputs, manifest.encoder_outputs):
                raise BundleError(f"{self.bundle.encoder} does not have the edges that the manifest lists")
        self.device = CUDA_DEVICE if self.provider == CUDA else HOST
        self.tokenizer = Tokenizer.from_file(str(self.bundle.tokenizer))
        self.vocabulary = self.bundle.vocabulary
        self.bank: Bank | None = None
        if manifest.shape == "bank":
            edges = [*manifest.inputs, *manifest.encoder_inputs]
            adapters = list(self.bundle.adapters.values())
            count = len(adapters) + manifest.spare_slots if slots is None else slots
            self.bank = Bank(edges, adapters, device=self.device, slots=count, held=held)
        self.registry = Registry(self.bundle, self.bank, self.check_canaries)
        self.base = _base(self.bundle) if self.bank else None
        self.engine = Engine(self.bundle, self.session, self.bank, pool, self.encoder, device=self.device)
        self.token_decoders = token_decoders(self.tokenizer)
        self.guides = Guides(self.tokenizer, _vocabulary(self.bundle), budget)
        self.turn = threading.Lock()
        """Held by the thread that steps."""

    @property
    def cards(self) -> dict[str, AdapterCard]:
        """The cards of the adapters that are served, by name."""
        return self.registry.cards

    def load(self, folder: Path | str, *, replace: bool = False) -> AdapterCard:
        """Serve the standalone adapter in `folder` as well, as `Registry.load` says."""
        return self.registry.load(Path(folder), replace=replace)

    def unload(self, name: str) -> None:
        """Serve an adapter no more."""
        self.registry.unload(name)

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self.session.get_providers()[0]

    def __call__(
        self,
        texts: str | Sequence[str],
        *,
        adapter: str | Sequence[str] | None = None,
        sampling: Sampling = GREEDY,
        max_new_tokens: int | None = None,
        truncate: bool = True,
    ) -> list[Written]:
        """Write a text for each of `texts`, inputs as the adapter's task has them; answers come in their order.

        With `sampling.n` there are so many for the first text, then as many for the next. With `truncate` off a prompt
        that is too long is an error.
        """
        prompts = self.prompts(texts, adapter, truncate=truncate)
        return self.write(prompts, max_new_tokens=max_new_tokens, sampling=sampling)

    def stream(
        self, text: str, *, adapter: str | None = None, sampling: Sampling = GREEDY, truncate: bool = True
    ) -> Iterator[str]:
        """Yield a text as it is written; whoever stops listening stops the writing."""
        pieces: deque[str] = deque()
        (generation,) = self.generations([self.prompt(text, adapter, truncate=truncate)], one_answer(sampling))
        generation.on_text = pieces.append
        self.engine.submit(generation)
        try:
            while generation.ended is None or pieces:
                self._step(generation)
                while pieces:
                    yield pieces.popleft()
        finally:
            self._cancel([generation])
        if generation.error is not None:
            raise generation.error

    def generations(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Generation]:
        """Return texts that have not been begun, for an `Engine`: `sampling.n` for each prompt."""
        return self.begin(
            prompts, sampling, {ends: self.guides.grammar(schema, ends) for schema, ends in schemas(prompts, sampling)}
        )

    def begin(
        self, prompts: Sequence[Prompt], sampling: Sampling, grammars: Mapping[tuple[int, ...], Grammar]
    ) -> list[Generation]:
        """Return texts as `generations` does, with the grammars of their schema, by end tokens, if there is one."""
        seeds = [None if sampling.seed is None else sampling.seed + index for index in range(sampling.n)]
        return [
            self._generation(prompt, replace(sampling, seed=seed), grammars) for prompt in prompts for seed in seeds
        ]

    def _generation(
        self, prompt: Prompt, sampling: Sampling, grammars: Mapping[tuple[int, ...], Grammar]
    ) -> Generation:
        start = self.bundle.manifest.start_token_id or 0
        ids, ends = prompt.input_ids, tuple(prompt.adapter.card.eos_token_ids)
        return Generation(
            ids if self.encoder is None else [start],
            prompt.adapter,
            sampling,
            TextStream(self.token_decoders(), sampling.stop),
            source=() if self.encoder is None else ids,
            guide=None if sampling.json_schema is None else grammars[ends].guide(),
        )

    def prompts(
        self, texts: str | Sequence[str], adapter: str | Sequence[str | None] | None = None, *, truncate: bool = True
    ) -> list[Prompt]:
        """Return the prompts of inputs, through one adapter or each through its own."""
        texts = [texts] if isinstance(texts, str) else texts
        names = [adapter] * len(texts) if adapter is None or isinstance(adapter, str) else adapter
        return [self.prompt(text, name, truncate=truncate) for text, name in zip(texts, names, strict=True)]

    def find(self, name: str | None) -> Adapter:
        """Return the adapter of a name; a bank has the base itself as `base`, unless an adapter is called so."""
        if name == BASE and self.base is not None and name not in self.registry.adapters:
            return self.base
        return self.registry.find(name)

    @cached_property
    def _letter(self) -> tuple[list[int], str]:
        """The tokens of a letter, and their text: a token is written after it, so that it keeps its space."""
        ids = self.tokenizer.encode("a", add_special_tokens=False).ids
        return ids, self.tokenizer.decode(ids, skip_special_tokens=False)

    def token_text(self, token: int) -> str:
        """Return the text of one token, the space before it included.

        What has none by itself, such as a part of a character, goes by its name in the vocabulary.
        """
        before, start = self._letter
        text: str = self.tokenizer.decode([*before, token], skip_special_tokens=False)[len(start) :]
        return text if text and REPLACEMENT not in text else self.tokenizer.id_to_token(token) or ""

    def prompt(self, text: str, adapter: str | None = None, *, truncate: bool = True) -> Prompt:
        """Return the prompt of an input as in training.

        One that is too long loses its beginning; if an encoder reads it, the end of its text. Without `truncate` it is
        an error.
        """
        found = self.find(adapter)
        card = found.card
        if not text.strip():
            raise InputError("the text is empty")
        ids = encode(self.tokenizer, card.prompt.replace("{input}", text)).ids
        if len(ids) > card.max_length:
            if not truncate:
                raise InputError(
                    f"the prompt has {len(ids)} tokens, {card.name} reads {card.max_length} at most: "
                    "shorten it, or set truncate to true"
                )
            ids = [*ids[: card.max_length - 1], ids[-1]] if self.encoder else ids[-card.max_length :]
        check_known(ids, self.tokenizer, self.vocabulary)
        return Prompt(ids, found)

    def write(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int | None = None, sampling: Sampling = GREEDY
    ) -> list[Written]:
        """Write after each prompt, as `sampling` says, until its end-of-sequence token or for `max_new_tokens`."""
        if max_new_tokens is not None:
            sampling = replace(sampling, max_new_tokens=max_new_tokens)
        generations = self.generations(prompts, sampling)
        waiting = deque(generations)
        try:
            for generation in generations:
                while generation.ended is None:
                    with contextlib.suppress(Overloaded):  # what does not fit into the queue now does later
                        while waiting:
                            self.engine.submit(waiting[0])
                            waiting.popleft()
                    self._step(generation)
                if generation.error is not None:
                    raise generation.error
        finally:
            self._cancel(generations)
        return [written(generation) for generation in generations]

    def _cancel(self, generations: Sequence[Generation]) -> None:
        """Have texts that nobody waits for leave their rows."""
        cancel(generations)
        with self.turn:
            self.engine.drop()

    def _step(self, generation: Generation) -> None:
        """Do a step for all that are in flight, unless another thread has ended this one meanwhile."""
        with self.turn:
            if generation.ended is None:
                self.engine.step()

    def forced_logits(self, prompts: Sequence[Prompt], tokens: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Return the logits (tokens, vocabulary) before each of `tokens`, which are taken as if they were written."""
        longest = max(map(len, tokens))
        steps = []
        with self._rows(prompts, longest) as rows:
            for step in range(longest):
                steps.append(rows.logits)
                if step + 1 < longest:
                    rows.append([row[min(step, len(row) - 1)] for row in tokens])
        return [np.stack([logits[index] for logits in steps[: len(row)]]) for index, row in enumerate(tokens)]

    def greedy_logits(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int
    ) -> tuple[list[list[int]], list[NDArray[np.float32]]]:
        """Return what is written after prompts, in one batch, and the logits (tokens, vocabulary) before each token.

        The token that ends a text is among them.
        """
        steps: list[NDArray[np.float32]] = []
        tokens, ended = self._greedy(prompts, max_new_tokens, steps)
        rows = [row if end is None else [*row, end] for row, end in zip(tokens, ended, strict=True)]
        return rows, [np.stack([step[index] for step in steps[: len(row)]]) for index, row in enumerate(rows)]

    def check_canaries(self, adapters: Sequence[Adapter]) -> None:
        """Raise an error if an adapter does not give the logits on its canary rows that it gave in PyTorch."""
        tolerance = max(CANARY_TOLERANCE, self.bundle.manifest.canary_tolerance)
        for adapter in adapters:
            card = adapter.card
            prompts = [Prompt(ids, adapter) for ids in card.canary_ids]
            logits = self.forced_logits(prompts, card.canary_tokens)
            found = [row[range(len(tokens)), tokens] for row, tokens in zip(logits, card.canary_tokens, strict=True)]
            if not all(
                len(row) == len(expected) and np.allclose(row, expected, rtol=0, atol=tolerance)
                for row, expected in zip(found, card.canary_logits, strict=True)
            ):
                raise BundleError(
                    f"adapter {card.name} does not give the logits that it gave in PyTorch on its canary rows "
                    f"(within {tolerance:g}): it is not served; export it again"
                )

    def _greedy(
        self, prompts: Sequence[Prompt], max_new_tokens: int, steps: list[NDArray[np.float32]] | None = None
    ) -> tuple[list[list[int]], list[int | None]]:
        """Return the tokens after each prompt and the one that ended them; the logits of every step go to `steps`."""
        ends = [prompt.adapter.card.eos_token_ids for prompt in prompts]
        tokens: list[list[int]] = [[] for _ in prompts]
        ended: list[int | None] = [None] * len(prompts)
        with self._rows(prompts, max_new_tokens) as rows:
            for step in range(max_new_tokens):
                if steps is not None:
                    steps.append(rows.logits)
                chosen = rows.logits.argmax(-1).tolist()
                for index, token in enumerate(chosen):
                    if ended[index] is None and token in ends[index]:
                        ended[index] = token
                    if ended[index] is None:
                        tokens[index].append(token)
                if None not in ended or step + 1 == max_new_tokens:
                    break
                rows.append(chosen)
        return tokens, ended

    @contextlib.contextmanager
    def _rows(self, prompts: Sequence[Prompt], room: int) -> Iterator["Rows"]:
        """Yield the rows of prompts, whose adapters stay in their slots until they are written."""
        if self.bank is None:
            yield Rows(self, prompts, room=room)
            return
        with self.bank.using([prompt.adapter for prompt in prompts]) as (slots, feeds):
            ids = ort.OrtValue.ortvalue_from_numpy(slots)
            yield Rows(self, prompts, room=room, adapters={**feeds, "adapter_ids": ids})


def schemas(prompts: Sequence[Prompt], sampling: Sampling) -> list[tuple[Mapping[str, Any], tuple[int, ...]]]:
    """Return what is to be compiled: the schema, if there is one, with the end tokens of each adapter."""
    if sampling.json_schema is None:
        return []
    ends = dict.fromkeys(tuple(prompt.adapter.card.eos_token_ids) for prompt in prompts)
    return [(sampling.json_schema, one) for one in ends]


def _vocabulary(bundle: Bundle) -> int:
    """Return how many tokens there are logits for."""
    (shape,) = [edge.shape for edge in bundle.manifest.outputs if edge.name == "logits"]
    return int(shape[-1])
