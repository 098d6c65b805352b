"""The command: `python -m benchmarks.gpu [--prepare DIR] [--from DIR] [--parts a,b] [--provider cuda|cpu] [--tiny]`."""

import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from benchmarks.gpu.models import missing_bundles
from benchmarks.gpu.parts import PARTS, SHAPES
from benchmarks.gpu.results import DONE, Results, load_parts
from benchmarks.gpu.runner import run_parts
from benchmarks.gpu.setting import DEVICES, Setting
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.harness import STDOUT

RESULT = "gpu.json"
SECONDS = {"cuda": 570.0, "cpu": 3600.0}
"""Default limit of a run by provider: that of a GPU is below the ten minutes that a call may take."""


def main(argv: list[str] | None = None) -> None:
    """Prepare, or run parts and write their results."""
    args = _parser().parse_args(argv)
    try:
        if args.prepare:
            _prepare(Path(args.prepare), args)
        elif args.folder is None and args.tiny:
            with tempfile.TemporaryDirectory() as folder:
                _prepare(Path(folder) / "prepared", args)
                _run(Path(folder) / "prepared", args)
        else:
            _run(Path(args.folder or "runs/gpu"), args)
    except BenchmarkError as error:
        sys.exit(f"benchmarks.gpu: {error}")


def chosen(names: str | None, results: Results) -> list[str]:
    """Return the parts to run: those that are named, or all that are not done yet.

    Raises:
        BenchmarkError: A name is unknown.
    """
    if names is None:
        return [name for name in PARTS if not results.is_done(name)]
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        raise BenchmarkError(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in wanted]


def _prepare(folder: Path, args: argparse.Namespace) -> None:
    from benchmarks.gpu.prepare import prepare
    from demos.models import SampleError

    with redirect_stdout(sys.stderr):
        try:
            prepare(Setting(folder=folder, provider="cpu", tiny=args.tiny), weights=args.weights)
        except SampleError as error:
            raise BenchmarkError(str(error)) from error


def _run(folder: Path, args: argparse.Namespace) -> None:
    setting = Setting(folder=folder.resolve(), provider=args.provider, tiny=args.tiny)
    if not folder.is_dir():
        raise BenchmarkError(f"there is no folder {folder}: write it with --prepare {folder}, where there is a network")
    file = folder / RESULT if args.json in (None, STDOUT) else Path(args.json)
    results = Results(setting=setting, command=_command(args), parts=load_parts(file, setting))
    if missing_bundles(setting):
        results.parts.pop(SHAPES, None)  # they were made on a machine that has gone
    names = chosen(args.parts, results)
    failed = []
    for part, record in run_parts(
        [PARTS[name] for name in names], setting, seconds=args.seconds or SECONDS[args.provider]
    ):
        results.parts[part.name] = record
        results.save(file)
        print(f"{part.name}: {record['state']}, {record['seconds']:.0f} s", file=sys.stderr, flush=True)
        if record["state"] != DONE:
            failed.append(part.name)
    print(results.as_markdown(), end="", file=sys.stderr if args.json == STDOUT else sys.stdout)
    if args.json == STDOUT:
        print(file.read_text("utf-8") if file.is_file() else "{}", end="")
    missing = [name for name in names if name not in failed and not results.is_done(name)]
    if failed or missing:
        sys.exit(f"benchmarks.gpu: {_listed('failed', failed)}{_listed('not begun', missing)}")


def _listed(state: str, names: list[str]) -> str:
    return f"{state}: {', '.join(names)}. " if names else ""


def _command(args: argparse.Namespace) -> str:
    options = [f"--provider {args.provider}", *(["--tiny"] if args.tiny else [])]
    options += [f"--parts {args.parts}"] if args.parts else []
    return " ".join(["python -m benchmarks.gpu", *options])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Everything that a GPU has to prove, in parts that take seconds."
    )
    parser.add_argument("--prepare", metavar="DIR", help="write what the run needs to DIR, and end")
    parser.add_argument(
        "--weights", action="store_true", help="with --prepare: SmolLM2's own weights too (270 MB), not its shape alone"
    )
    parser.add_argument("--from", dest="folder", metavar="DIR", help="folder that --prepare wrote (default: runs/gpu)")
    parser.add_argument("--parts", metavar="A,B", help=f"parts to run, again if done: {', '.join(PARTS)}")
    parser.add_argument("--provider", choices=DEVICES, default="cuda", help="where to run (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="rehearse: tiny shapes, few repeats, times mean nothing")
    parser.add_argument("--seconds", type=float, help="end after so many seconds (default: 570 with cuda)")
    parser.add_argument(
        "--json",
        metavar="FILE|-",
        help=f"write the result, anew after each part, and a table beside it (default: DIR/{RESULT}); with - to stdout",
    )
    return parser


if __name__ == "__main__":
    main()
