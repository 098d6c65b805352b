"""Ask servers through huggingface_hub: huggingface_client.py WRITER CLASSIFIERS FILE; FILE gets what it found.

WRITER is the address of a server with the adapter `north` on a base with a chat template, CLASSIFIERS that of one with
the adapter `tone`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import InferenceClient, constants
from huggingface_hub.errors import TextGenerationError

MESSAGES = [{"role": "user", "content": "Rain?"}]


def written(address: str) -> Any:
    """Return texts of completions and chats, whole and streamed."""
    north, server = InferenceClient(f"{address}/models/north"), InferenceClient(address)
    details: Any = north.text_generation("ab", max_new_tokens=6, details=True, top_n_tokens=2)
    drawn: Any = {"max_new_tokens": 6, "temperature": 1.0, "top_p": 0.9, "seed": 1, "return_full_text": True}
    stream = server.chat_completion(MESSAGES, model="base", max_tokens=6, stream=True)
    return {
        "whole": north.text_generation("ab", max_new_tokens=6),
        "streamed": "".join(north.text_generation("ab", max_new_tokens=6, stream=True)),
        "named": server.text_generation("ab", max_new_tokens=6, adapter_id="north"),
        "drawn": north.text_generation("ab", **drawn),
        "stopped": north.text_generation("ab", max_new_tokens=6, stop=["\x1b"]),
        "details": [details.generated_text, details.details.finish_reason, [one.id for one in details.details.tokens]],
        "last": list(north.text_generation("ab", max_new_tokens=6, details=True, stream=True))[-1].generated_text,
        "chat": server.chat_completion(MESSAGES, model="base", max_tokens=6).choices[0].message.content,
        "streamed_chat": "".join(event.choices[0].delta.content or "" for event in stream),
    }


def classified(address: str) -> Any:
    """Return labels and scores."""
    tone = InferenceClient(f"{address}/models/tone")
    return {
        "all": [[one.label, one.score] for one in tone.text_classification("very good")],
        "first": [one.label for one in tone.text_classification("very good", top_k=1)],
        "logits": [one.score for one in tone.text_classification("very good", function_to_apply="none")],
    }


def refused(address: str) -> Any:
    """Return the class of the error of a model that is not there, and of an option that is not supported."""
    asked: dict[str, Any] = {"east": {}, "north": {"typical_p": 0.5}}
    classes = []
    for name, options in asked.items():
        try:
            InferenceClient(f"{address}/models/{name}").text_generation("ab", **options)
        except TextGenerationError as error:
            classes.append(type(error).__name__)
    return classes


def main(writer: str, classifiers: str, file: str) -> None:
    """Ask everything and write it to a file."""
    constants.HF_HUB_OFFLINE = False  # it refuses every address, also one that is here
    found = {"written": written(writer), "classified": classified(classifiers), "refused": refused(writer)}
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
