"""The command adamix-demo: two small tasks from their texts to one server, and what came out as a table."""

import argparse
import asyncio
import csv
import hashlib
import importlib.util
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

try:
    import httpx
    import yaml

    from adamix_cli.completion import add_completion
    from adamix_cli.progress_bar import progress_bar
    from demos.models import SampleError, sample_model
    from demos.page.catalog import read_catalog
    from demos.page.server_client import PageError, ServerClient
    from demos.server import ServerError, running_server
    from demos.tasks import DATA, TASKS, recipe

    for needed in ("torch", "onnx", "gradio"):
        # Imported minutes later, by the commands that the demo runs; missing ones are reported now.
        if importlib.util.find_spec(needed) is None:
            raise ImportError(f"No module named {needed!r}")
except ImportError as error:
    sys.exit(f"adamix-demo needs the demo extra ({error}): run pip install '.[demo]' in a clone of the repository")

LATENCY_REQUESTS = 50
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class AdapterResult:
    """Results of one adapter over HTTP on its test file."""

    correct: int
    texts: int
    milliseconds: float
    """Median of single requests, one after the other."""

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return self.correct / self.texts


def main(argv: list[str] | None = None) -> None:
    """Train, export, serve and ask; then show the page."""
    parser = argparse.ArgumentParser(
        prog="adamix-demo",
        allow_abbrev=False,
        description="Train two adapters on a small model, export them as one bank, serve it, and ask it; or, with "
        "--server, open the page for a server that runs already.",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="working folder (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port of the server (default: a free one)")
    parser.add_argument("--server", metavar="URL", help="only open the page, for a server that runs already")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="API key that the page sends to --server")
    parser.add_argument("--page-port", type=int, default=7860, help="port of the page (default: %(default)s)")
    parser.add_argument("--no-page", action="store_true", help="end after the table")
    parser.add_argument("--json", action="store_true", help="print the table as one JSON object (implies --no-page)")
    add_completion(parser)
    args = parser.parse_args(argv)
    if args.api_key_file and not args.server:
        parser.error("--api-key-file goes with --server")
    try:
        _open_page(args) if args.server else _demo(args)
    except (SampleError, ServerError, PageError) as error:
        sys.exit(f"adamix-demo: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"adamix-demo: {error.cmd[2]} ended with {error.returncode}; its message is above")
    except OSError as error:
        sys.exit(f"adamix-demo: {error}")
    except KeyboardInterrupt:
        sys.exit("adamix-demo: stopped; finished steps are kept and will be reused")


def _open_page(args: argparse.Namespace) -> None:
    """Open the page for a server that runs, and see that it does."""
    key = args.api_key_file.read_text(encoding="utf-8").strip() if args.api_key_file else None
    client = ServerClient(args.server, api_key=key)
    asyncio.run(read_catalog(client))
    from demos.page.page import show

    show(client, port=args.page_port)


def _demo(args: argparse.Namespace) -> None:
    say = (lambda text: None) if args.json else print
    say("1. The base model: all-MiniLM-L6-v2, 22 million parameters, frozen from here on")
    base = sample_model("minilm")
    say(f"   {base}")
    _forget_if_changed(args.out)
    for number, task in enumerate(TASKS, 2):
        say(f"{number}. Train a mixture of 4 modules for {task!r}; its mean is the adapter")
        _train(task, base, args.out)
    say("4. Collapse both and export them as one bank: the base's graph once, an adapter a row")
    bank = args.out / "bank"
    if not (bank / "bundle.json").is_file():
        _run("adamix_export.cli", *(str(args.out / task) for task in TASKS), str(bank), "--shape", "bank")
    say("5. Serve it and send it the test messages of both tasks, mixed in one batch")
    with running_server(bank, port=args.port, log=args.out / "server.log") as address:
        answered = _ask(address)
        info = httpx.get(f"{address}/info").json()
        rows = _table(info, answered, bank)
        if args.json:
            print(json.dumps({"address": address, "adapters": rows}))
            return
        say(_format(rows, bank))
        if args.no_page:
            say(f"\n   Serve it again: adamix-serve {bank} --port {PORT}\n{_example(f'http://127.0.0.1:{PORT}')}")
        else:
            say(f"\n   adamix-serve {bank} is running at {address}\n{_example(address)}")
            from demos.page.page import show

            show(ServerClient(address), port=args.page_port)


def _train(task: str, base: Path, out: Path) -> None:
    run = out / task
    if (run / "results.json").is_file():
        return
    # What is left of an interrupted run makes way.
    shutil.rmtree(run, ignore_errors=True)
    file = out / f"{task}.yaml"
    file.write_text(yaml.safe_dump(recipe(task, base=base, out=run), sort_keys=False))
    _run("adamix_train.cli", str(file))


def _run(module: str, *arguments: str) -> None:
    command = module.removesuffix(".cli").replace("_", "-")
    print(f"   $ {shlex.join([command, *arguments])}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=sys.stderr)


def _forget_if_changed(out: Path) -> None:
    """Empty the working folder if the data, the recipes or the version are not those it was made with."""
    recipes = {task: recipe(task, base=Path("base"), out=Path("out")) for task in TASKS}
    data = {str(file.relative_to(DATA)): hashlib.sha256(file.read_bytes()).hexdigest() for file in DATA.rglob("*.csv")}
    for fields in recipes.values():
        fields.update(train_file="", test_file="")
    made_with = json.dumps({"recipes": recipes, "data": data, "version": version("adamix")}, sort_keys=True)
    stamp = out / "made-with.json"
    if not stamp.is_file() and out.exists() and any(out.iterdir()):
        sys.exit(f"adamix-demo: {out} is not empty and not of this demo: give another --out")
    if not stamp.is_file() or stamp.read_text() != made_with:
        for name in (*TASKS, "bank"):
            shutil.rmtree(out / name, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        stamp.write_text(made_with)


def _ask(address: str) -> dict[str, AdapterResult]:
    """Send every test message, tasks mixed, in batches; then single ones for the latency."""
    cases = [(task, row["text"], row["label"]) for task in TASKS for row in _rows(task)]
    cases.sort(key=lambda case: hashlib.sha256(case[1].encode()).digest())
    correct = dict.fromkeys(TASKS, 0)
    times: dict[str, list[float]] = {task: [] for task in TASKS}
    with httpx.Client(base_url=address, timeout=60) as client:
        for start in progress_bar(range(0, len(cases), BATCH), desc="asking", unit="batch"):
            batch = cases[start : start + BATCH]
            for (task, _, label), scores in zip(batch, _predict(client, batch), strict=True):
                correct[task] += scores[0]["label"] == label
        for case in cases[:LATENCY_REQUESTS]:
            started = time.perf_counter()
            _predict(client, [case])
            times[case[0]].append(1000 * (time.perf_counter() - started))
    return {
        task: AdapterResult(correct=correct[task], texts=len(_rows(task)), milliseconds=statistics.median(times[task]))
        for task in TASKS
    }


def _predict(client: httpx.Client, cases: list[tuple[str, str, str]]) -> list[list[dict[str, Any]]]:
    body = {"inputs": [[text] for _, text, _ in cases], "adapter": [task for task, *_ in cases]}
    response = client.post("/predict", json=body)
    response.raise_for_status()
    named = response.headers["x-adapter"].split(",")
    assert named == list(dict.fromkeys(task for task, *_ in cases)), (
        "another adapter answered than the one that was named"
    )
    return response.json()


def _rows(task: str) -> list[dict[str, str]]:
    with (DATA / task / "test.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _table(info: dict[str, Any], answered: dict[str, AdapterResult], bank: Path) -> list[dict[str, Any]]:
    base_bytes = (bank / "model.onnx.data").stat().st_size
    rows = []
    for task, adapter in info["adapters"].items():
        size = (bank / "adapters" / task / "adapter.safetensors").stat().st_size
        rows.append(
            {
                "adapter": task,
                "kind": adapter["kind"],
                "labels": len(adapter["labels"]),
                "test_texts": answered[task].texts,
                "accuracy_pytorch": adapter["metrics"]["test_accuracy"],
                "accuracy_served": answered[task].accuracy,
                "largest_logit_difference": adapter["parity"]["max_difference"],
                "adapter_bytes": size,
                "adapter_share_of_base": size / base_bytes,
                "latency_ms": answered[task].milliseconds,
            }
        )
    return rows


def _format(rows: list[dict[str, Any]], bank: Path) -> str:
    base = (bank / "model.onnx.data").stat().st_size / 2**20
    head = (
        f"   {'adapter':<8} {'kind':<8} {'labels':>6} {'texts':>6} {'PyTorch':>8} {'served':>8} {'max diff':>9} "
        f"{'size':>8} {'of base':>8} {'latency':>9}"
    )
    lines = [
        f"   {row['adapter']:<8} {row['kind']:<8} {row['labels']:>6} {row['test_texts']:>6} "
        f"{row['accuracy_pytorch']:>8.3f} {row['accuracy_served']:>8.3f} {row['largest_logit_difference']:>9.1e} "
        f"{row['adapter_bytes'] / 2**10:>4.0f} KiB {row['adapter_share_of_base']:>8.2%} {row['latency_ms']:>6.1f} ms"
        for row in rows
    ]
    notes = (
        f"   The base has {base:.0f} MiB and is there once. PyTorch: accuracy on the test file before export; served:\n"
        "   the same over HTTP from ONNX Runtime. Latency: median of single requests, tokenization and HTTP included."
    )
    return "\n".join(["", head, *lines, "", notes])


PORT = 8080
"""Port of the command that serves the demo again."""


def _example(address: str) -> str:
    body = json.dumps({"inputs": [["It never arrived."], ["Lovely!"]], "adapter": ["intent", "tone"]})
    return f"   Ask it yourself:\n   curl {address}/predict -H 'content-type: application/json' \\\n        -d '{body}'"


if __name__ == "__main__":
    main()
