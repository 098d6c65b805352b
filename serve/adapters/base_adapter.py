"""The base model of a bank, as an adapter without weights."""

from serve.bundle.adapter import Adapter, AdapterCard
from serve.bundle.config import context_length, eos_token_ids
from serve.bundle.manifest import TOKENIZER
from serve.bundle.reader import Bundle

BASE = "base"
"""Name by which requests select the base model, unless an adapter has this name."""
DEFAULT_LENGTH = 512
"""Longest prompt in tokens where the base's configuration does not say."""


def is_base(card: AdapterCard) -> bool:
    """Return True for the card of the base model, whatever adapters are called."""
    return card.kind == "none" and card.sha256 == card.base_sha256


def base_adapter(bundle: Bundle) -> Adapter:
    """Return the base model of a bank; its prompt is the text itself."""
    card = AdapterCard(
        name=BASE,
        sha256=bundle.manifest.base["sha256"],
        base_sha256=bundle.manifest.base["sha256"],
        tokenizer_sha256=bundle.manifest.files[TOKENIZER],
        kind="none",
        r=0,
        num_modules=0,
        labels=[],
        max_length=context_length(bundle) or DEFAULT_LENGTH,
        metric="",
        metrics={},
        canary_ids=[],
        canary_logits=[],
        eos_token_ids=eos_token_ids(bundle),
    )
    return Adapter(card, {})
