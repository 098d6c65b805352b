"""A fixed batch of prompts, decoded from the first token to the last."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.generation.cache.kv_cache import PAST, PRESENT
from serve.generation.model_runner import SOURCE_MASK
from serve.generation.prompts import Prompt
from serve.runtime.buffers import TYPES
from serve.runtime.padding import mask_of, pad

if TYPE_CHECKING:
    from serve.generation.generator import Generator


class Rows:
    """Prompts that are written together: their cache and the logits (rows, vocabulary) of the newest tokens."""

    def __init__(
        self,
        generator: "Generator",
        prompts: Sequence[Prompt],
        *,
        room: int,
        adapters: dict[str, ort.OrtValue] | None = None,
    ) -> None:
        """Read the prompts, with room for so many tokens after each; `adapters` are the inputs that a bank adds."""
        self.generator = generator
        manifest = generator.bundle.manifest
        ids = [prompt.input_ids for prompt in prompts]
        self.fixed = dict(adapters or {})
        if generator.encoder is not None:
            self.fixed |= self._encode(generator.encoder, ids)
            ids = [[manifest.start_token_id or 0] for _ in prompts]
        self.lengths = np.array([len(row) for row in ids])
        self.steady = {edge.name for edge in manifest.inputs} & set(self.fixed)
        sizes = {"batch": len(prompts), "max_length": int(self.lengths.max()) + room}
        self.cache = {
            edge.name.removeprefix(PAST): ort.OrtValue.ortvalue_from_numpy(
                np.zeros([dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape], TYPES[edge.dtype]),
                generator.device,
                0,
            )
            for edge in manifest.inputs
            if edge.name.startswith(PAST) and edge.name not in self.fixed
        }
        self.logits = self._run(pad(ids, manifest.pad_token_id))

    def append(self, tokens: Sequence[int]) -> None:
        """Take one more token of every row."""
        self.lengths += 1
        self.logits = self._run(np.array(tokens, np.int64)[:, None])

    def _encode(self, encoder: ort.InferenceSession, ids: list[list[int]]) -> dict[str, ort.OrtValue]:
        """Return what the decoder reads of the sources, by the names of its inputs."""
        manifest = self.generator.bundle.manifest
        mask = mask_of([len(row) for row in ids])
        binding = encoder.io_binding()
        binding.bind_cpu_input("input_ids", pad(ids, manifest.pad_token_id))
        binding.bind_cpu_input("attention_mask", mask)
        for edge in manifest.encoder_inputs:
            if edge.name in self.fixed:
                binding.bind_ortvalue_input(edge.name, self.fixed[edge.name])
        for edge in manifest.encoder_outputs:
            binding.bind_output(edge.name, self.generator.device)
        encoder.run_with_iobinding(binding)
        names = [PAST + edge.name.removeprefix(PRESENT) for edge in manifest.encoder_outputs]
        read = dict(zip(names, binding.get_outputs(), strict=True))
        return read | {SOURCE_MASK: ort.OrtValue.ortvalue_from_numpy(mask)}

    def _run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        mask = mask_of(self.lengths)
        binding = self.generator.session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("attention_mask", mask)
        for name in self.steady:
            binding.bind_ortvalue_input(name, self.fixed[name])
        binding.bind_output("logits")
        for name, value in self.cache.items():
            binding.bind_ortvalue_input(PAST + name, value)
            binding.bind_ortvalue_output(PRESENT + name, value)
        self.generator.session.run_with_iobinding(binding)
        logits: NDArray[np.float32] = binding.get_outputs()[0].numpy()
        return logits[:, 0]
