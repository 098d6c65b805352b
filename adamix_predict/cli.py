"""The command adamix-predict."""

import argparse
import json
import logging
import os
import signal
import sys

try:
    from adamix_predict.args import job, parse_args
    from adamix_predict.chunks import ERROR
    from adamix_predict.predict import predict
    from adamix_predict.summary import Summary
    from adamix_train.errors import AdaMixError, DataError
    from serve.args import load_options
    from serve.cluster.token import use_token
    from serve.errors import ServeError
except ImportError as error:
    sys.exit(
        f"adamix-predict needs ONNX Runtime ({error}): run pip install '.[cpu]' in a clone of the repository, "
        "or '.[gpu]' with a GPU"
    )

INTERRUPTED, BROKEN_PIPE, TERMINATED = (128 + number for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM))
"""Exit statuses after a signal, as shells have them."""


def main(argv: list[str] | None = None) -> None:
    """Predict the rows of a file."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        summary = _on_ray(args) if args.ray is not None else predict(job(args), **load_options(args))
        if args.json:
            print(json.dumps({"bundle": str(args.bundle), "out": str(args.out), **summary.as_dict()}, indent=2))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: say nothing more at the exit
        sys.exit(BROKEN_PIPE)
    except KeyboardInterrupt:
        more = "; the same command goes on" if args.resume else ""
        print(f"adamix-predict: interrupted; no file was written{more}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (AdaMixError, ServeError, OSError) as error:
        sys.exit(f"adamix-predict: {error}")
    if not args.json:
        for line in summary.lines(str(args.out or "standard output"), args.prefix + ERROR):
            print(line, file=sys.stderr)


def _on_ray(args: argparse.Namespace) -> Summary:
    """Predict on a cluster."""
    use_token(args.ray)
    try:
        from adamix_predict.ray_job import RayPlan, predict_on_ray
    except ImportError as error:
        raise DataError(f"--ray needs the extra ray ({error}): run pip install '.[cpu,ray]'") from error
    plan = RayPlan(job=job(args), source=args.file, out=args.out, address=args.ray, predictors=args.predictors)
    return predict_on_ray(plan, load_options(args))


if __name__ == "__main__":
    main()
