"""Keep generated texts as JSON lines."""

import json
from collections.abc import Sequence
from pathlib import Path

from adamix_train.evaluation.generate import Written


def store(written: Sequence[Written], file: Path) -> None:
    """Keep what was written as JSON lines, for people to read."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text("".join(json.dumps(one.__dict__, ensure_ascii=False) + "\n" for one in written), "utf-8")
    partial.replace(file)
