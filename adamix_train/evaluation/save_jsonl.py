"""Save generated texts as JSON lines."""

import json
from collections.abc import Sequence
from pathlib import Path

from adamix_train.artifacts.atomic_write import write_text
from adamix_train.evaluation.generate import GeneratedText


def save_jsonl(generated: Sequence[GeneratedText], file: Path) -> None:
    """Write one JSON object a text, with the keys `input`, `text` and `references`."""
    write_text(file, "".join(json.dumps(vars(one), ensure_ascii=False) + "\n" for one in generated))
