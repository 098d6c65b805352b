"""Score a model with lm-eval, by itself and otherwise: lm_eval_client.py ADDRESS MODEL GENAI MERGED TASKS FILE.

MODEL is a folder of transformers, whose weights the server has as `base`, and GENAI is its conversion for
onnxruntime-genai; MERGED is that of the server's adapter `one`. TASKS is a folder with the tasks `choice` and `write`.
FILE gets for each way to reach the weights what they scored, and what they were scored on.
"""

import json
import sys
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

ABSENT = ("alias", "sample_len", "name", "sample_count")
"""Entries of a task's results that are no scores."""


def scored(tasks: TaskManager, name: str, model: str, arguments: dict[str, Any], **options: Any) -> Any:
    """Return the scores of a task, and the answers that they are of."""
    found = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=[name],
        task_manager=tasks,
        log_samples=True,
        bootstrap_iters=0,
        **options,
    )
    scores = {key: value for key, value in found["results"][name].items() if key not in ABSENT}
    return {"scores": scores, "answers": [sample["resps"] for sample in found["samples"][name]]}


def main(address: str, model: str, genai: str, merged: str, folder: str, file: str) -> None:
    """Score everything and write it to a file."""
    tasks = TaskManager(include_path=folder, include_defaults=False)
    itself: dict[str, Any] = {"pretrained": model, "dtype": "float32", "device": "cpu"}
    there: dict[str, Any] = {"model": "base", "base_url": f"{address}/v1/completions", "max_retries": 1}
    local = {**there, "tokenizer_backend": "huggingface", "tokenizer": model}
    chat = {**there, "base_url": f"{address}/v1/chat/completions", "tokenizer_backend": None}
    found = {
        "choice": {
            "hf": scored(tasks, "choice", "hf", itself),
            "tokens": scored(tasks, "choice", "local-completions", local),
            "batches": scored(tasks, "choice", "local-completions", {**local, "batch_size": 8, "num_concurrent": 2}),
            "texts": scored(tasks, "choice", "local-completions", {**local, "tokenized_requests": False}),
            "tokenizer of the server": scored(tasks, "choice", "local-completions", there),
            "genai": scored(tasks, "choice", "onnxruntime-genai", {"pretrained": genai}),
        },
        "write": {
            "hf": scored(tasks, "write", "hf", itself),
            "tokens": scored(tasks, "write", "local-completions", local),
            "genai": scored(tasks, "write", "onnxruntime-genai", {"pretrained": genai}),
        },
        "adapter": {
            name: {
                "server": scored(tasks, name, "local-completions", {**local, "model": "one"}),
                "genai": scored(tasks, name, "onnxruntime-genai", {"pretrained": merged}),
            }
            for name in ("choice", "write")
        },
        "chat": {
            "hf": scored(tasks, "write", "hf", itself, apply_chat_template=True),
            "chat": scored(tasks, "write", "local-chat-completions", chat, apply_chat_template=True),
        },
    }
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
