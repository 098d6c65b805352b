"""One part in a process of its own: `python -m benchmarks.gpu.part NAME SETTING OUT`, as the runner starts it.

SETTING is the setting as JSON, OUT the file for the outcome.
"""

import json
import logging
import sys
from pathlib import Path

from adamix_train.artifacts.atomic_write import write_json
from benchmarks.gpu.outcome import WHOLE, Outcome
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.setting import NO_CARD, Setting, setting_of


def main(argv: list[str]) -> None:
    """Measure one part and write its outcome."""
    name, given, out = argv
    setting = setting_of(json.loads(given))
    card = card_of(setting)
    logging.basicConfig(level=logging.WARNING)
    found = PARTS[name].load()(setting)
    content: dict[str, object] = {}
    for outcome in [found] if isinstance(found, Outcome) else found:
        content = {**outcome.as_dict(), "card": card}
        write_json(Path(out), {**content, WHOLE: False})
    write_json(Path(out), {**content, WHOLE: True})


def card_of(setting: Setting) -> str:
    """Return the name of the GPU.

    torch is imported before ONNX Runtime, which then finds the CUDA libraries that torch has loaded.
    """
    import torch

    if setting.provider != "cuda":
        return NO_CARD
    return str(torch.cuda.get_device_name(0))


if __name__ == "__main__":
    main(sys.argv[1:])
