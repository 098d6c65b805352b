"""The base model of a bank as an adapter without weights."""

import json

from serve.bundle.adapter import Adapter, AdapterCard
from serve.bundle.config import context_of
from serve.bundle.manifest import TOKENIZER
from serve.bundle.reader import Bundle

BASE = "base"
"""The name by which a bank's base is asked for."""
BASE_LENGTH = 512
"""Tokens that the base reads where its configuration does not say."""


def _base(bundle: Bundle) -> Adapter:
    """Return the base of a bank as an adapter without weights; a prompt is the text itself."""
    config = json.loads((bundle.folder / "config.json").read_text("utf-8"))
    ends = config.get("eos_token_id") or []
    card = AdapterCard(
        name=BASE,
        sha256=bundle.manifest.base["sha256"],
        base_sha256=bundle.manifest.base["sha256"],
        tokenizer_sha256=bundle.manifest.files[TOKENIZER],
        kind="none",
        r=0,
        num_modules=0,
        labels=[],
        max_length=context_of(bundle) or BASE_LENGTH,
        metric="",
        metrics={},
        canary_ids=[],
        canary_logits=[],
        eos_token_ids=ends if isinstance(ends, list) else [ends],
    )
    return Adapter(card, {})
