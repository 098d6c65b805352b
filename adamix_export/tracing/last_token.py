"""Classifiers whose head reads the last token: decoders, and encoder-decoders of T5's layout.

Inputs are padded on the right, so that causal attention needs no mask. The token that is read is the last one that is
neither padding nor the padding token itself, as in transformers; T5's is the last end-of-sequence token.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adamix_export.errors import ExportError
from adamix_export.tracing.conv1d import untranspose
from adamix_export.tracing.stacks import Stacks
from adamix_train.base_model.architecture import is_decoder, why_not_exported
from serve.bundle.graph_io import ATTENTION_MASK, INPUT_IDS


class DecoderClassifier(nn.Module):
    """A decoder with a head that takes all inputs, including stacks, as one dict and returns its logits."""

    def __init__(self, model: Any, token_inputs: list[str], stacks: Stacks | None) -> None:
        super().__init__()
        self.model, self.stacks = model, stacks
        self.further = [name for name in token_inputs if name not in (INPUT_IDS, ATTENTION_MASK)]

    def forward(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return logits (batch, labels)."""
        if self.stacks is not None:
            self.stacks.read(tensors)
        ids = tensors[INPUT_IDS]
        last = _last(tensors[ATTENTION_MASK] * (ids != self.model.config.get_text_config().pad_token_id))
        states = self.model.base_model(
            **{name: tensors[name] for name in self.further},
            input_ids=ids,
            attention_mask=_up_to(last, ids),
            use_cache=False,
        ).last_hidden_state
        return self.model.score(_read(states, last))


class EncoderDecoderClassifier(nn.Module):
    """A T5 with a head: the encoder's input, shifted by one token, is the decoder's too."""

    def __init__(self, model: Any, stacks: Stacks | None) -> None:
        super().__init__()
        self.model, self.stacks = model, stacks

    def forward(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return logits (batch, labels)."""
        if self.stacks is not None:
            self.stacks.read(tensors)
        ids, mask, config = tensors[INPUT_IDS], tensors[ATTENTION_MASK], self.model.config
        last = _last(mask * (ids == config.eos_token_id))
        states = self.model.base_model(
            input_ids=ids,
            attention_mask=mask,
            decoder_input_ids=_shifted(ids, config.decoder_start_token_id),
            decoder_attention_mask=_up_to(last, ids),
            use_cache=False,
        ).last_hidden_state
        return self.model.classification_head(_read(states, last))


def last_token_classifier(model: PreTrainedModel, token_inputs: list[str], stacks: Stacks | None) -> nn.Module | None:
    """Return the module to trace for a model whose head reads the last token, or None for an encoder.

    Raises:
        ExportError: the model is of another layout, which cannot be exported.
    """
    if reason := why_not_exported(model.config, generates=False):
        raise ExportError(f"the base {reason}")
    if model.config.is_encoder_decoder:
        return EncoderDecoderClassifier(model, stacks)
    if not is_decoder(model.config):
        return None
    if not hasattr(model, "score"):
        raise ExportError(
            f"{type(model).__name__} has no head called score that reads the last token: it cannot be exported"
        )
    untranspose(model)
    return DecoderClassifier(model, token_inputs, stacks)


def _shifted(ids: Tensor, start: int) -> Tensor:
    """Return ids (batch, sequence) behind a start token, without the last one."""
    return torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], 1)


def _last(real: Tensor) -> Tensor:
    """Return the position (batch,) of the last token of each row that `real` (batch, sequence) marks; 0 if none."""
    return (real * torch.arange(real.shape[1])).amax(1)


def _up_to(last: Tensor, ids: Tensor) -> Tensor:
    """Return a mask (batch, sequence) of the tokens up to the one that is read."""
    return (torch.arange(ids.shape[1]) <= last.unsqueeze(1)).to(torch.int64)


def _read(states: Tensor, last: Tensor) -> Tensor:
    """Return the states (batch, width) at `last` (batch,) of states (batch, sequence, width), in one operator."""
    return torch.onnx.ops.symbolic(
        "GatherND",
        (states, last.unsqueeze(1)),
        attrs={"batch_dims": 1},
        dtype=states.dtype,
        shape=(states.shape[0], states.shape[2]),
    )
