"""Predict a token with llama.cpp: `llama_cpp_logprobs.py BASE.gguf ADAPTER.gguf|- JOB OUT`; run by its peer.

JOB is {"prompts": lists of token ids, "vocabulary": size} in JSON. OUT gets, for each prompt, the log probability of
every token by id.
"""

import json
import sys
from importlib import import_module
from pathlib import Path


def main(base, adapter, job, out):
    llama = import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path, params.warmup, params.cache_prompt = base, False, False
    params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    if adapter != "-":
        params.lora_adapters = [llama.CommonAdapterLoraInfo(adapter, 1.0)]
    server = llama.Server(params)
    job = json.loads(Path(job).read_text())
    settings = {"max_tokens": 1, "temperature": 0, "logprobs": job["vocabulary"]}
    answers = [server.handle_completions({"prompt": prompt, **settings}) for prompt in job["prompts"]]
    steps = [answer["choices"][0]["logprobs"]["content"][0] for answer in answers]
    found = [{str(token["id"]): token["logprob"] for token in step["top_logprobs"]} for step in steps]
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
