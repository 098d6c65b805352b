"""Write with optimum: `optimum_greedy.py FOLDER JOB OUT`; run by the interpreter of its peer.

JOB is {"batches": batches of prompts of equal length, as token ids, "new": tokens} in JSON; OUT gets the greedy tokens.
"""

import json
import sys
from importlib import import_module
from pathlib import Path


def main(folder, job, out):
    torch = import_module("torch")
    model = import_module("optimum.onnxruntime").ORTModelForCausalLM.from_pretrained(folder)
    job = json.loads(Path(job).read_text())
    settings = {"max_new_tokens": job["new"], "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    written = []
    for batch in job["batches"]:
        ids = torch.tensor(batch)
        found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
        written.append(found[:, ids.shape[1] :].tolist())
    Path(out).write_text(json.dumps(written))


if __name__ == "__main__":
    main(*sys.argv[1:])
