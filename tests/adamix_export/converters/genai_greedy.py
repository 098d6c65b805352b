"""Write greedily with onnxruntime-genai: `genai_greedy.py FOLDER JOB OUT`; run by the interpreter of its peer.

JOB has `rows`, batches of prompts as lists of token ids padded on the right, the number `new` of tokens to write, and
perhaps an `adapter`. OUT gets the tokens behind every prompt.
"""

import json
import sys
from importlib import import_module
from pathlib import Path


def main(folder, job, out):
    og, np = import_module("onnxruntime_genai"), import_module("numpy")
    job = json.loads(Path(job).read_text())
    model = og.Model(folder)
    adapters = og.Adapters(model)
    if job.get("adapter"):
        adapters.load(str(Path(folder) / f"{job['adapter']}.onnx_adapter"), job["adapter"])
    written = []
    for batch in job["rows"]:
        length = len(batch[0])
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=length + job["new"], batch_size=len(batch))
        generator = og.Generator(model, params)
        if job.get("adapter"):
            generator.set_active_adapter(adapters, job["adapter"])
        generator.append_tokens(np.array(batch, np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        written.append([[int(token) for token in generator.get_sequence(row)[length:]] for row in range(len(batch))])
        del generator
    Path(out).write_text(json.dumps(written))


if __name__ == "__main__":
    main(*sys.argv[1:])
