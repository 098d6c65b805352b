"""Write with vLLM: `vllm_greedy.py BASE ADAPTER JOB OUT`; run by the interpreter of its peer.

BASE is a model's folder, ADAPTER a checkpoint of PEFT. JOB is {"prompts": lists of token ids, "new": tokens} in JSON.
OUT gets each prompt's greedy tokens with the adapter, and then without it.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path


def main(base, adapter, job, out):
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    vllm = import_module("vllm")
    request = import_module("vllm.lora.request").LoRARequest("adapter", 1, adapter)
    job = json.loads(Path(job).read_text())
    model = vllm.LLM(
        model=base,
        dtype="float32",
        enable_lora=True,
        max_lora_rank=8,
        max_loras=1,
        enforce_eager=True,
        max_model_len=64,
        max_num_seqs=4,
        skip_tokenizer_init=True,
    )
    sampling = vllm.SamplingParams(temperature=0, max_tokens=job["new"], ignore_eos=True, detokenize=False)
    prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]
    answers = [model.generate(prompts, sampling, lora_request=lora, use_tqdm=False) for lora in (request, None)]
    written = [[list(answer.outputs[0].token_ids) for answer in each] for each in answers]
    Path(out).write_text(json.dumps(written))


if __name__ == "__main__":
    main(*sys.argv[1:])
