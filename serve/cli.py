"""The command adamix-serve."""

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import uvicorn

    from serve.bundle.reader import Bundle, open_bundle, with_adapters
    from serve.classification.async_classifier import AsyncClassifier
    from serve.classification.batcher import Limits
    from serve.classification.classifier import BATCH_TOKENS, Classifier
    from serve.errors import BundleError, ServeError
    from serve.generation.async_text_generator import AsyncGenerator
    from serve.generation.generator import Generator
    from serve.generation.limits import Pool
    from serve.http.app import make_app
    from serve.runtime.graph_cache import default_cache
    from serve.runtime.providers import CPU, CUDA, PROVIDERS, cores
except ImportError as error:
    sys.exit(f"adamix-serve needs ONNX Runtime ({error}): pip install 'adamix[cpu]' or, with a GPU, 'adamix[gpu]'")

logger = logging.getLogger(__name__)

EXAMPLE = """\
examples:
  adamix-serve bundles/demo
  curl localhost:8080/predict -H 'content-type: application/json' \\
       -d '{"inputs": [["It never arrived."], ["Lovely!"]], "adapter": ["intent", "tone"]}'

  adamix-serve bundles/e2e
  curl localhost:8080/v1/completions -H 'content-type: application/json' \\
       -d '{"model": "e2e", "prompt": "name[Alimentum], area[city centre]", "stream": true}'

Routes: POST /predict of bundles with labels or scores, POST /v1/completions and GET /v1/models of bundles that write;
GET /info, /health, /metrics (Prometheus), /docs (OpenAPI).
SIGTERM: what is in flight is answered, then the server ends.
"""


def main(argv: list[str] | None = None) -> None:
    """Serve a bundle over HTTP until told to stop."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        listener = _listen(args.host, args.port)
        bundle = with_adapters(open_bundle(args.bundle), args.adapter)
        engine = _engine(bundle, args)
    except ServeError as error:
        sys.exit(f"adamix-serve: {error}")
    app = make_app(engine, max_client_rows=args.max_client_batch_size, payload_limit=args.payload_limit)
    # uvicorn raises the signal that stopped it once more when it is done; a drained server has ended well.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    host, port = listener.getsockname()[:2]
    logger.info("serving %s (%s) on http://%s:%d", args.bundle, ", ".join(engine.model.cards), host, port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=args.exit_timeout_secs,
        lifespan="on",
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        if abandoned := engine.abandoned:
            logger.error("stopped; %d texts were not answered within the time to exit", abandoned)
        else:
            logger.info("stopped; everything that was taken is answered")


def _classifier(bundle: Bundle, args: argparse.Namespace, common: dict[str, Any]) -> AsyncClassifier:
    classifier = Classifier(
        bundle, batch_tokens=args.max_batch_tokens, streams=args.streams or args.threads or cores(), **common
    )
    bounds = {"max_batch_rows": args.max_batch_requests, "max_queued_rows": args.max_queued_requests}
    return AsyncClassifier(
        classifier, Limits(max_batch_tokens=classifier.batch_tokens, timeout=args.timeout, **_given(bounds))
    )


def _generator(bundle: Bundle, args: argparse.Namespace, common: dict[str, Any]) -> AsyncGenerator:
    bounds = {
        "rows": args.max_batch_requests,
        "queued": args.max_queued_requests,
        "tokens": args.max_tokens_in_flight,
        "chunk": args.prefill_chunk,
        "prefix_tokens": args.prefix_tokens,
    }
    return AsyncGenerator(Generator(bundle, pool=Pool(timeout=args.timeout, **_given(bounds)), **common))


WRITING = ("max_tokens_in_flight", "prefill_chunk", "prefix_tokens")
ENGINES: dict[str, tuple[Callable[..., AsyncClassifier | AsyncGenerator], tuple[str, ...]]] = {
    "text-classification": (_classifier, ("max_batch_tokens", "streams")),
    "text-generation": (_generator, WRITING),
    "text2text-generation": (_generator, WRITING),
}
"""By the bundle's task: what makes the engine, and the flags that only this one has."""


def _engine(bundle: Bundle, args: argparse.Namespace) -> AsyncClassifier | AsyncGenerator:
    """Return the engine of a bundle; an error if a flag is given that it does not have."""
    task = bundle.manifest.task
    if task not in ENGINES:
        raise BundleError(f"{bundle.folder} has the task {task!r}; adamix-serve has {', '.join(ENGINES)}")
    make, own = ENGINES[task]
    foreign = {flag for _, flags in ENGINES.values() for flag in flags} - {*own}
    if given := sorted(flag for flag in foreign if getattr(args, flag) is not None):
        raise BundleError(f"--{given[0].replace('_', '-')} means nothing for {bundle.folder}, whose task is {task}")
    common = {
        "provider": args.provider,
        "threads": args.threads,
        "slots": args.slots,
        "held": args.host_adapters,
        "cache": None if args.no_cache else args.cache or default_cache(),
    }
    return make(bundle, args, common)


def _given(bounds: dict[str, Any]) -> dict[str, Any]:
    """Return what was asked for; the rest keeps its defaults."""
    return {name: value for name, value in bounds.items() if value is not None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adamix-serve",
        description="Serve a bundle of adamix-export over HTTP.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    batches, writing = Limits(), Pool()
    parser.add_argument("bundle", type=Path, help="folder made by adamix-export, of shape merged or bank")
    parser.add_argument(
        "--adapter", type=Path, action="append", default=[], metavar="FOLDER", help="load a standalone adapter as well"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--provider", choices=PROVIDERS, default="auto", help="where to run (default: a GPU if there is one)"
    )
    parser.add_argument("--threads", type=_positive, help="threads of a run on the CPU (default: the cores at hand)")
    parser.add_argument(
        "--streams",
        type=_positive,
        help="labels: batches side by side under load, one thread each, on the CPU (default: the threads)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="where optimised graphs are kept for the next start and other servers; each takes one and a half times "
        "its bundle (default: $ADAMIX_CACHE/graphs or ~/.cache/adamix/graphs)",
    )
    parser.add_argument("--no-cache", action="store_true", help="keep no optimised graph")
    parser.add_argument(
        "--max-batch-tokens",
        type=_positive,
        help="labels: padded tokens of a batch "
        f"(default: {BATCH_TOKENS[CPU]} on the CPU, {BATCH_TOKENS[CUDA]} on a GPU)",
    )
    parser.add_argument(
        "--max-tokens-in-flight",
        type=_positive,
        help="texts: tokens of the cache, in which every text in flight has as many as the longest may come to; "
        f"what can never fit is refused, what does not fit now waits (default: {writing.tokens})",
    )
    parser.add_argument(
        "--prefill-chunk",
        type=_positive,
        help="texts: tokens of prompts that are read between two tokens of the texts that are written "
        f"(default: {writing.chunk})",
    )
    parser.add_argument(
        "--prefix-tokens",
        type=_not_negative,
        help="texts: tokens of prompts that are kept for others that begin alike; 0 keeps none "
        f"(default: {writing.prefix_tokens})",
    )
    parser.add_argument(
        "--slots",
        type=_positive,
        help="adapters on the device at a time; the others are brought in when they are asked for (default: all)",
    )
    parser.add_argument(
        "--host-adapters",
        type=_positive,
        help="adapters with their weights in host memory; the others are read from disk again (default: all)",
    )
    for flag, text, few, many in (
        ("--max-batch-requests", "texts that run at a time", writing.rows, batches.max_batch_rows),
        (
            "--max-queued-requests",
            "texts that wait; beyond that the answer is 429",
            writing.queued,
            batches.max_queued_rows,
        ),
    ):
        parser.add_argument(flag, type=_positive, help=f"{text} (default: {many} for labels, {few} for texts)")
    for flag, default, text in (
        ("--max-client-batch-size", 64, "texts in one request"),
        ("--payload-limit", 2_000_000, "bytes of one request"),
        ("--exit-timeout-secs", 30, "seconds to answer what is in flight after SIGTERM"),
    ):
        parser.add_argument(flag, type=_positive, default=default, help=f"{text} (default: %(default)s)")
    parser.add_argument(
        "--timeout",
        type=_positive_seconds,
        default=batches.timeout,
        help="seconds a text may wait; then 504 (default: %(default)s)",
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _positive_seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: ports are 0 to 65535")
    return value


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before the model is loaded, so that a port in use is told at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Listening claims the port; a second server's bind fails from here on.
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"adamix-serve: cannot listen on {host}:{port}: {reason}; give another --port")
    return listener


if __name__ == "__main__":
    main()
