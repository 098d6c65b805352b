"""Fields of the records that a data-to-text adapter reads, `name[Lantern Walk], price[free]`."""

import re
from collections.abc import Iterable

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.parity.examples import parity_examples

FIELD = r"(\w[\w ]*)\[[^\[\]]*\]"
RECORD = re.compile(rf"{FIELD}(, ?{FIELD})*")
MOST_FIELDS = 64
"""More are no form."""


def record_fields(checkpoint: Checkpoint) -> list[str]:
    """Return the names of the fields of the texts that a checkpoint is compared on, if each of them is a record."""
    if not checkpoint.objective.is_generative:
        return []
    examples, _ = parity_examples(checkpoint, Check())
    return fields_of(example.texts[0] for example in examples)


def fields_of(texts: Iterable[str]) -> list[str]:
    """Return the names of the fields in the order of their first appearance; none if a text is no record."""
    found: dict[str, None] = {}
    for text in texts:
        if not RECORD.fullmatch(text.strip()):
            return []
        found |= dict.fromkeys(re.findall(FIELD, text))
    return list(found) if len(found) <= MOST_FIELDS else []
