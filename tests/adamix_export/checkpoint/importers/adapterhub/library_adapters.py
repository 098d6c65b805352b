"""Save adapters with the `adapters` library: `library_adapters.py JOBS OUT`; run by the interpreter of its peer.

JOBS is a list in JSON. A job names a base, a folder, a configuration with its fields, and a head; `adapt` is "flex" for
a model with flexible heads, or a class of transformers. OUT gets the logits of the texts' ids for each folder.
"""

import json
import sys
from importlib import import_module
from pathlib import Path


def main(jobs, out):
    torch, adapters, transformers = (import_module(name) for name in ("torch", "adapters", "transformers"))
    found = {}
    for job in json.loads(Path(jobs).read_text()):
        torch.manual_seed(0)
        adapt = job.get("adapt", "flex")
        if adapt == "flex":
            model = adapters.AutoAdapterModel.from_pretrained(job["base"])
        else:
            model = getattr(transformers, adapt).from_pretrained(job["base"], **job.get("settings", {}))
            adapters.init(model)
        config = getattr(adapters, job["config"])(**job.get("fields", {}))
        model.add_adapter("tone", config=config)
        if adapt == "flex":
            head = job.get("head", {})
            labels = dict(enumerate(head.pop("labels", ["a", "b", "c"])))
            model.add_classification_head("tone", num_labels=len(labels), id2label=labels, **head)
        model.set_active_adapters("tone")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".tone." in name or name.startswith("classifier"):
                    parameter.add_(0.3 * torch.randn_like(parameter))
        model.eval()
        inputs = {name: torch.tensor(value) for name, value in job["inputs"].items()}
        with torch.no_grad():
            found[job["folder"]] = model(**inputs).logits.tolist()
        model.save_adapter(job["folder"], "tone", with_head=True, use_safetensors=True)
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
