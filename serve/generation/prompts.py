"""A prompt: token ids and the adapter that continues them."""

from dataclasses import dataclass

from serve.bundle.adapter import Adapter


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a row is written from, and the adapter that writes it."""

    input_ids: list[int]
    adapter: Adapter
