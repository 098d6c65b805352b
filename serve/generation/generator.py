"""The generation engine, synchronous: inputs in, generated texts out, each through an adapter of its own.

All callers share one `ContinuousBatchScheduler`.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from serve.adapters.base_adapter import BASE, base_adapter
from serve.bundle.adapter import Adapter, AdapterCard
from serve.bundle.config import vocab_size
from serve.bundle.reader import Bundle
from serve.bundle.tokenizer import read_tokenizer
from serve.errors import Overloaded
from serve.generated_text import GenerationResult
from serve.generation import static_batch
from serve.generation.capture_check import checked
from serve.generation.chat_template import chat_template
from serve.generation.detokenizer import TokenTexts
from serve.generation.prompts import Prompt, PromptEncoder, PromptLimits
from serve.generation.request import SequenceState, cancel
from serve.generation.result import check_streamable, results_of, stripped
from serve.generation.sampling.schema_trials import CompileBudget
from serve.generation.sampling.structured_output import GrammarCache
from serve.generation.scheduler import ContinuousBatchScheduler
from serve.generation.sequence_factory import Grammars, SequenceFactory, constraints_of
from serve.limits import GenerationLimits
from serve.loaded_model import LoadedModel, LoadOptions
from serve.requests import GenerationRequest, PromptInput, adapter_names
from serve.sampling_params import GREEDY, SamplingParams


class Generator:
    """A bundle that generates text; any number of threads may call it, and their sequences share batches.

    Opening it runs the canary rows of every adapter and compares them with PyTorch's logits: an adapter that differs is
    not served.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        limits: GenerationLimits | None = None,
        compile_budget: CompileBudget | None = None,
        **options: Unpack[LoadOptions],
    ) -> None:
        """Open a bundle, or the one in a folder.

        Args:
            bundle: A bundle or its folder.
            limits: Limits of the queue, the batch and the KV cache.
            compile_budget: Bounds of compiling a JSON schema.
            options: Keyword arguments of `LoadedModel`: provider, threads, slots, host_adapters, cache, pins.

        Raises:
            BundleError: The bundle is damaged, or an adapter does not give PyTorch's logits.
            ProviderError: The requested provider cannot run.
        """
        self.model = checked(LoadedModel(bundle, **options))
        self.bundle, self.bank = self.model.bundle, self.model.bank
        self.tokenizer = read_tokenizer(self.bundle.tokenizer)
        self.is_encoder_decoder = self.model.encoder is not None
        self.prompt_encoder = PromptEncoder(
            self.tokenizer,
            vocab_size=vocab_size(self.bundle),
            is_encoder_decoder=self.is_encoder_decoder,
            template=chat_template(self.bundle),
        )
        self.token_texts = TokenTexts(self.tokenizer)
        self.base = base_adapter(self.bundle) if self.bank else None
        """The base model of a bank; None for a merged bundle."""
        self.registry = self.model.registry(partial(static_batch.check_canaries, self.model))
        self.scheduler = ContinuousBatchScheduler(self.model, limits, self.tokenizer)
        self.grammars = GrammarCache(self.tokenizer, self.scheduler.buckets.runner.vocabulary, compile_budget)
        self.factory = SequenceFactory(
            self.token_texts,
            vocabulary=self.scheduler.buckets.runner.vocabulary,
            start_token_id=(self.bundle.manifest.start_token_id or 0) if self.is_encoder_decoder else None,
        )
        self.turn = threading.Lock()
        """Held by the thread that steps."""

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self.model.provider

    @property
    def cards(self) -> dict[str, AdapterCard]:
        """Cards of the served adapters, by name."""
        return self.registry.cards

    def __call__(
        self,
        texts: str | Sequence[str],
        *,
        adapter: str | Sequence[str | None] | None = None,
        sampling: SamplingParams = GREEDY,
        max_new_tokens: int | None = None,
        truncate: bool = True,
    ) -> list[GenerationResult]:
        """Generate a text for each input.

        Args:
            texts: An input of the adapter's task, or a sequence of them.
            adapter: One name for all inputs or one for each; None selects the only adapter.
            sampling: Sampling parameters.
            max_new_tokens: Takes the place of `sampling.max_new_tokens`.
            truncate: Cut prompts that are too long, as in training; otherwise they are an InputError.

        Returns:
            `sampling.n` results for each input, in order, without white space around their texts.

        Raises:
            InputError: An input is empty or, without `truncate`, too long, or the parameters exclude every token.
            UnknownAdapter: No adapter has that name.
            GenerationFailed: An adapter gives logits that are not finite.
        """
        prompts = self.prompts(texts, adapter, truncate=truncate)
        return self.generate(prompts, max_new_tokens=max_new_tokens, sampling=sampling)

    def stream(
        self, text: str, *, adapter: str | None = None, sampling: SamplingParams = GREEDY, truncate: bool = True
    ) -> Iterator[str]:
        """Stream the text that is generated for an input. Closing the iterator cancels the request."""
        pieces: deque[str] = deque()
        prompt = self.prompt(text, adapter, truncate=truncate)
        (sequence,) = self.sequences([prompt], check_streamable(sampling))
        sequence.on_text = pieces.append
        self.scheduler.submit(sequence)
        try:
            while sequence.finish_reason is None or pieces:
                self._step(sequence)
                while pieces:
                    yield pieces.popleft()
        finally:
            self._cancel([sequence])
        if sequence.error is not None:
            raise sequence.error

    def generate(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int | None = None, sampling: SamplingParams = GREEDY
    ) -> list[GenerationResult]:
        """Generate texts for encoded prompts, as a call does for inputs."""
        if max_new_tokens is not None:
            sampling = replace(sampling, max_new_tokens=max_new_tokens)
        sequences = self.sequences(prompts, sampling)
        waiting = deque(sequences)
        try:
            for sequence in sequences:
                while sequence.finish_reason is None:
                    with contextlib.suppress(Overloaded):  # those that do not fit into the queue now do later
                        while waiting:
                            self.scheduler.submit(waiting[0])
                            waiting.popleft()
                    self._step(sequence)
                if sequence.error is not None:
                    raise sequence.error
        finally:
            self._cancel(sequences)
        return [stripped(result) for sequence in sequences for result in results_of(sequence, self.token_texts)]

    def load(self, folder: Path | str, *, replace: bool = False) -> AdapterCard:
        """Add the standalone adapter in `folder`, as `Registry.load` describes."""
        return self.registry.load(Path(folder), replace=replace)

    def unload(self, name: str) -> None:
        """Remove an adapter, as `Registry.unload` describes."""
        self.registry.unload(name)

    def find(self, name: str | None) -> Adapter:
        """Return the adapter called `name`; in a bank, `base` is the base model unless an adapter has this name."""
        if name == BASE and self.base is not None and name not in self.registry.adapters:
            return self.base
        return self.registry.find(name)

    def prompt(self, text: PromptInput, adapter: str | None = None, *, truncate: bool = True) -> Prompt:
        """Return the prompt of an input, as `PromptEncoder.encode` describes."""
        return self.prompt_encoder.encode(text, self.find(adapter), truncate=truncate)

    def prompts(
        self, texts: str | Sequence[str], adapter: str | Sequence[str | None] | None = None, *, truncate: bool = True
    ) -> list[Prompt]:
        """Return the prompts of inputs, through one adapter or each through its own."""
        texts = [texts] if isinstance(texts, str) else texts
        names = adapter_names(adapter, len(texts))
        return [self.prompt(text, name, truncate=truncate) for text, name in zip(texts, names, strict=True)]

    def prompts_of(self, request: GenerationRequest, adapters: Sequence[Adapter]) -> list[Prompt]:
        """Return the prompts of a request; those that are cut leave room for what is to be generated."""
        limits = PromptLimits(
            truncate=request.truncate,
            max_tokens=request.max_prompt_tokens,
            context=self.scheduler.queue.prompt_room(request.sampling),
        )
        pairs = zip(request.prompts, adapters, strict=True)
        return [self.prompt_encoder.encode(prompt, adapter, limits=limits) for prompt, adapter in pairs]

    def sequences(
        self, prompts: Sequence[Prompt], sampling: SamplingParams, grammars: Grammars | None = None
    ) -> list[SequenceState]:
        """Return sequences that have not begun, `sampling.n` for each prompt; sequence i is drawn with `seed + i`.

        Without `grammars` the JSON schema or grammar is compiled here, if the request has one.
        """
        if grammars is None:
            grammars = {eos: self.grammars.compile(one, eos) for one, eos in constraints_of(prompts, sampling)}
        return self.factory.make(prompts, sampling, grammars)

    def forced_logits(self, prompts: Sequence[Prompt], tokens: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Return the logits before each of given tokens, as `static_batch.forced_logits` describes."""
        return static_batch.forced_logits(self.model, prompts, tokens)

    def greedy_logits(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int
    ) -> tuple[list[list[int]], list[NDArray[np.float32]]]:
        """Return greedily generated tokens and their logits, as `static_batch.greedy_logits` describes."""
        return static_batch.greedy_logits(self.model, prompts, max_new_tokens=max_new_tokens)

    def _cancel(self, sequences: Sequence[SequenceState]) -> None:
        """Remove sequences from the queue and the batch."""
        cancel(sequences)
        with self.turn:
            self.scheduler.drop()

    def _step(self, sequence: SequenceState) -> None:
        """Step the scheduler, unless another thread has ended the sequence meanwhile."""
        with self.turn:
            if sequence.finish_reason is None:
                self.scheduler.step()
