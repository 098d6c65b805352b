"""The command adamix-demo: small tasks from their texts to one server, and what came out as tables."""

import argparse
import asyncio
import hashlib
import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

try:
    import httpx
    import yaml

    from adamix_cli.completion import add_completion
    from demos import label_results, text_results
    from demos.models import SampleError, sample_model
    from demos.page.catalog import read_catalog
    from demos.page.server_client import PageError, ServerClient
    from demos.page.training_place import open_place
    from demos.records import read_records
    from demos.server import ServerError, running_server
    from demos.tasks import BUNDLES, DATA, GENERATION_TASKS, TASKS, data_file, recipe

    for needed in ("torch", "onnx", "gradio"):
        # Imported minutes later, by the commands that the demo runs; missing ones are reported now.
        if importlib.util.find_spec(needed) is None:
            raise ImportError(f"No module named {needed!r}")
except ImportError as error:
    sys.exit(f"adamix-demo needs the demo extra ({error}): run pip install '.[demo]' in a clone of the repository")


def main(argv: list[str] | None = None) -> None:
    """Train, export, serve and ask; then show the page."""
    parser = argparse.ArgumentParser(
        prog="adamix-demo",
        allow_abbrev=False,
        description="Train two classifiers and a writer on small models, export them as banks, serve all in one "
        "process, and ask them; or, with --server, open the page for a server that runs already.",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="working folder (default: %(default)s)")
    parser.add_argument(
        "--decoder", type=Path, metavar="FOLDER", help="base model of the texts (default: SmolLM2-135M-Instruct)"
    )
    parser.add_argument("--port", type=int, default=0, help="port of the server (default: a free one)")
    parser.add_argument("--server", metavar="URL", help="only open the page, for a server that runs already")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="API key that the page sends to --server")
    parser.add_argument(
        "--allow-training", action="store_true", help="the page may train adapters on this machine, and load them"
    )
    parser.add_argument(
        "--adapter-dir",
        type=Path,
        metavar="FOLDER",
        help="--allow-training: --adapter-dir of --server, on this machine",
    )
    parser.add_argument(
        "--base",
        action="append",
        metavar="FOLDER",
        help="--allow-training: base of a bank of --server, a folder or a hub id; can be given several times",
    )
    parser.add_argument("--page-port", type=int, default=7860, help="port of the page (default: %(default)s)")
    parser.add_argument("--no-page", action="store_true", help="end after the table")
    parser.add_argument("--json", action="store_true", help="print the table as one JSON object (implies --no-page)")
    add_completion(parser)
    args = parser.parse_args(argv)
    if args.api_key_file and not args.server:
        parser.error("--api-key-file goes with --server")
    _check_training(parser, args)
    if args.decoder and not (args.decoder / "config.json").is_file():
        parser.error(f"--decoder: {args.decoder} holds no model: there is no config.json")
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


def _check_training(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the command if its flags for training do not go together."""
    folders = (args.adapter_dir, args.base)
    if args.allow_training and args.server and not all(folders):
        parser.error("--allow-training with --server needs --adapter-dir and --base, both on this machine")
    if any(folders) and not (args.allow_training and args.server):
        parser.error("--adapter-dir and --base go with --server and --allow-training")
    if args.allow_training and (args.no_page or args.json):
        parser.error("--allow-training is for the page: leave out --no-page and --json")


def _open_page(args: argparse.Namespace) -> None:
    """Open the page for a server that runs, and see that it does."""
    key = args.api_key_file.read_text(encoding="utf-8").strip() if args.api_key_file else None
    client = ServerClient(args.server, api_key=key)
    asyncio.run(read_catalog(client))
    from demos.page.page import show

    show(client, port=args.page_port, training=open_place(args.base, args.adapter_dir) if args.allow_training else None)


def _demo(args: argparse.Namespace) -> None:
    say = (lambda text: None) if args.json else print
    say("1. Two base models, frozen from here on: all-MiniLM-L6-v2 (22 million parameters) reads messages,")
    say(f"   {args.decoder or 'SmolLM2-135M-Instruct'} writes texts")
    bases = {folder: _base(bundle.base, args.decoder) for folder, bundle in BUNDLES.items()}
    _forget_if_changed(args.out, args.decoder)
    say("2. Train a mixture of 4 modules for each task; its mean is the adapter")
    for folder, bundle in BUNDLES.items():
        for task in bundle.tasks:
            say(f"   {task}, on {bases[folder]}")
            _train(task, bases[folder], args.out)
    say("3. Collapse them and export a bank for each base: the base's graph once, an adapter a row")
    banks = [args.out / folder for folder in BUNDLES]
    for bank in banks:
        _export(bank, [args.out / task for task in BUNDLES[bank.name].tasks])
    say("4. Serve both in one process: send it all test messages, mixed in one batch, and all test records")
    adapter_dir, options = args.out / "adapters", []
    if args.allow_training:
        adapter_dir.mkdir(exist_ok=True)
        options = ["--adapter-dir", str(adapter_dir)]
    with running_server(*banks, port=args.port, log=args.out / "server.log", options=options) as address:
        tables = _measure(address, args.out, say)
        if args.json:
            print(json.dumps({"address": address, **tables}))
            return
        command = f"adamix-serve {shlex.join(map(str, banks))}"
        if args.no_page:
            say(f"\n   Serve it again: {command} --port {PORT}\n{_example(f'http://127.0.0.1:{PORT}')}")
        else:
            say(f"\n   {command} is running at {address}\n{_example(address)}")
            from demos.page.page import show

            training = open_place(list(bases.values()), adapter_dir) if args.allow_training else None
            show(ServerClient(address), port=args.page_port, training=training)


def _base(name: str, decoder: Path | None) -> Path:
    return decoder if decoder and name == DECODER else sample_model(name)


def _export(bank: Path, runs: list[Path]) -> None:
    if not (bank / "bundle.json").is_file():
        _run("adamix_export.cli", *map(str, runs), str(bank), "--shape", "bank")


def _measure(address: str, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the rows of both tables, and say each as soon as it is there."""
    adapters = {
        name: card for part in httpx.get(f"{address}/info").json()["bundles"] for name, card in part["adapters"].items()
    }
    rows = label_results.as_rows(adapters, label_results.ask(address), out / "bank")
    say(label_results.format_table(rows, out / "bank"))
    texts = []
    for task in GENERATION_TASKS:
        records = read_records(data_file(task, "test"))
        found = [
            text_results.served(address, "base", records),
            text_results.before_export(task, out / task, records),
            text_results.served(address, task, records),
        ]
        say(text_results.format_table(found, records))
        texts += text_results.as_rows(found)
    return {"adapters": rows, "texts": texts}


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


def _forget_if_changed(out: Path, decoder: Path | None) -> None:
    """Empty the working folder if the data, the recipes or the version are not those it was made with."""
    recipes = {task: recipe(task, base=Path("base"), out=Path("out")) for task in (*TASKS, *GENERATION_TASKS)}
    data = {str(file.relative_to(DATA)): hashlib.sha256(file.read_bytes()).hexdigest() for file in DATA.rglob("*.*")}
    for fields in recipes.values():
        fields.update(train_file="", test_file="")
    made_with = json.dumps(
        {"recipes": recipes, "data": data, "decoder": decoder and str(decoder), "version": version("adamix")},
        sort_keys=True,
    )
    stamp = out / "made-with.json"
    if not stamp.is_file() and out.exists() and any(out.iterdir()):
        sys.exit(f"adamix-demo: {out} is not empty and not of this demo: give another --out")
    if not stamp.is_file() or stamp.read_text() != made_with:
        for name in (*recipes, *BUNDLES):
            shutil.rmtree(out / name, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        stamp.write_text(made_with)


PORT = 8080
"""Port of the command that serves the demo again."""
DECODER = "smollm2"
"""Base that --decoder stands in for."""
RECORD = "name[Tea and Tango], kind[dance evening], place[the old mill], date[2 May], time[19:00], price[free]"


def _example(address: str) -> str:
    predict = {"inputs": [["It never arrived."], ["Lovely!"]], "adapter": ["intent", "tone"]}
    complete = {"model": "events", "prompt": RECORD}
    return "\n".join(
        ["   Ask it yourself:", _curl(address, "/predict", predict), _curl(address, "/v1/completions", complete)]
    )


def _curl(address: str, path: str, body: dict[str, Any]) -> str:
    return f"   curl {address}{path} -H 'content-type: application/json' \\\n        -d '{json.dumps(body)}'"


if __name__ == "__main__":
    main()
