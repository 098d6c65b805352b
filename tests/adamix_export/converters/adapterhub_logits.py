"""Load adapters with the `adapters` library: `adapterhub_logits.py JOBS OUT`; run by the interpreter of its peer.

JOBS is a list in JSON of folders, bases and inputs; OUT gets the logits by folder. A base without a head is loaded with
flexible heads, a causal model as it is.
"""

import json
import sys
from importlib import import_module
from pathlib import Path


def main(jobs, out):
    torch, adapters, transformers = (import_module(name) for name in ("torch", "adapters", "transformers"))
    found = {}
    for job in json.loads(Path(jobs).read_text()):
        if job["generates"]:
            model = transformers.AutoModelForCausalLM.from_pretrained(job["base"])
            adapters.init(model)
        else:
            model = adapters.AutoAdapterModel.from_pretrained(job["base"])
        info = {}
        name = model.load_adapter(job["folder"], use_safetensors=True, set_active=True, loading_info=info)
        assert not info.get("missing_keys") and not info.get("unexpected_keys"), info
        model.eval()
        with torch.no_grad():
            logits = model(**{key: torch.tensor(value) for key, value in job["inputs"].items()}).logits
        labels = None if job["generates"] else list(model.get_labels(name) or [])
        found[job["folder"]] = {"logits": logits.tolist(), "labels": labels}
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
