"""Flags of adamix-serve; those that open bundles are adamix-predict's too."""

import argparse
import contextlib
import io
import os
from pathlib import Path
from typing import Any

from adamix_cli.completion import add_completion
from serve.adapter_args import add_adapter_flags, pinned_names
from serve.connection_flags import add_tls_flags, tls_files
from serve.errors import ConfigurationError
from serve.flag_types import origin, port, positive, root_path
from serve.limit_flags import add_limit_flags
from serve.loaded_model import LoadOptions
from serve.runtime.graph_cache import default_cache
from serve.runtime.providers import PROVIDERS
from serve.settings import read_settings
from serve.telemetry.flags import add_log_flags
from serve.telemetry.metric_flags import add_metric_flags
from serve.worker_flags import add_worker_flags, check_worker_settings

EXAMPLE = """\
examples:
  adamix-serve bundles/demo
  curl localhost:8080/predict -H 'content-type: application/json' \\
       -d '{"inputs": [["It never arrived."], ["Lovely!"]], "adapter": ["intent", "tone"]}'

  adamix-serve bundles/e2e
  curl localhost:8080/v1/completions -H 'content-type: application/json' \\
       -d '{"model": "e2e", "prompt": "name[Alimentum], area[city centre]", "stream": true}'

on a Ray cluster:
  adamix-serve deploy --help

routes:
  text-embeddings-inference  POST /predict, /rerank (classifiers)
  OpenAI                     POST /v1/completions, /v1/chat/completions (generators); GET /v1/models
  vLLM                       POST /classify (classifiers), /tokenize, /detokenize
                             POST /v1/load_lora_adapter, /v1/unload_lora_adapter (with --adapter-dir)
  Open Inference Protocol    GET /v2, /v2/models/NAME; POST /v2/models/NAME/infer, /v2/repository/…
                             POST /v2/models/NAME/generate, /generate_stream (generators); gRPC with --grpc-port
  SageMaker                  GET /ping; POST /invocations
  operation                  GET /health, /health/live, /health/ready, /info, /metrics (Prometheus), /docs (OpenAPI),
                             /v1/adapters

On SIGTERM the server completes the requests in flight and exits; on SIGHUP it reads its settings and adapters again;
with --workers it starts its workers anew on SIGUSR2, one after another, and no request is lost.
A flag that is not given is taken from the variable ADAMIX_… of its name (--max-client-batch-size:
ADAMIX_MAX_CLIENT_BATCH_SIZE), else from the file of --config, where its key is its name.
"""


NEEDS = {
    "max_lookup_adapters": "adapter_lookup",
    "open_metrics": "api_keys",
    "trace_sample": "otlp_endpoint",
    "worker_timeout_secs": "workers",
}
"""Settings that change nothing without another one."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Return the settings of a command line, of the environment, and of a configuration that either names.

    Args:
        argv: The command line; None takes that of the process.

    Raises:
        ConfigurationError: A variable of the environment or the configuration is wrong; a command line that is wrong
            ends the process.
    """
    args = read_settings(make_parser, argv, os.environ)
    if not args.bundles:
        make_parser().error("give a BUNDLE, on the command line, as ADAMIX_BUNDLES, or as bundles in --config")
    if args.port and args.port == args.grpc_port:
        raise ConfigurationError(f"--port and --grpc-port are both {args.port}: give each its own")
    tls_files(args)
    check_worker_settings(args)
    if args.json and not args.check:
        raise ConfigurationError("--json is the form of what --check prints: give --check too")
    return args


def read_args(argv: list[str] | None) -> argparse.Namespace:
    """Return the settings as `parse_args` does, with an error for a command line that is wrong.

    Raises:
        ConfigurationError: The settings are wrong.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return parse_args(argv)
    except SystemExit as error:
        if not error.code:  # help
            raise
        # argparse prints how the command is used, and in the last line what is wrong.
        raise ConfigurationError(told.getvalue().splitlines()[-1].removeprefix("adamix-serve: error: ")) from error


def idle_settings(args: argparse.Namespace) -> list[str]:
    """Return a line for each setting that was given and changes nothing, since another one was not."""
    defaults = vars(make_parser().parse_args([]))
    given = {name for name, value in vars(args).items() if value != defaults[name]}
    flags = {name: f"--{name.replace('_', '-')}" for name in defaults}
    return [
        f"{flags[name]} changes nothing without {flags[other]}"
        for name, other in NEEDS.items()
        if name in given and other not in given
    ]


def make_parser(**options: Any) -> argparse.ArgumentParser:
    """Return the parser of the command line; `options` are further arguments of `ArgumentParser`."""
    parser = argparse.ArgumentParser(
        prog="adamix-serve",
        allow_abbrev=False,
        description="Serve a bundle of adamix-export over HTTP.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
    )
    _add_bundle_flags(parser)
    _add_access_flags(parser)
    add_model_flags(parser)
    add_limit_flags(parser)
    add_log_flags(parser)
    add_metric_flags(parser)
    add_completion(parser)
    return parser


def load_options(args: argparse.Namespace) -> LoadOptions:
    """Return the keyword arguments that open the bundle."""
    return LoadOptions(
        provider=args.provider,
        threads=args.threads,
        slots=args.slots,
        host_adapters=args.host_adapters,
        cache=None if args.no_cache else args.cache or default_cache(),
        pins=pinned_names(getattr(args, "pin", [])),
    )


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how bundles are opened, which `load_options` reads; and --ensemble."""
    parser.add_argument(
        "--provider", choices=PROVIDERS, default="auto", help="where to run (default: a GPU if there is one)"
    )
    parser.add_argument("--threads", type=positive, help="threads of a run on the CPU (default: the usable cores)")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="folder of optimised graphs, for the next start and for other servers; each needs up to 2.2 times "
        "the disk space of its bundle (default: $ADAMIX_CACHE/graphs or ~/.cache/adamix/graphs)",
    )
    parser.add_argument(
        "--ensemble",
        action="store_const",
        const=True,
        help="classifiers: answer with the mean of the probabilities of an adapter's members, in place of its own; for "
        "bundles exported with --keep-modules",
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="keep no optimised graph, and map the bundle's own weights"
    )
    parser.add_argument(
        "--slots",
        type=positive,
        help="adapters on the device at a time; the others are loaded when they are requested (default: all)",
    )
    parser.add_argument(
        "--host-adapters",
        type=positive,
        help="adapters with their weights in host memory; the others are read from disk again (default: all)",
    )


def _add_bundle_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundles",
        type=Path,
        nargs="*",
        metavar="BUNDLE",
        help="folder made by adamix-export, of shape merged or bank; several share the server and its threads",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings in YAML or TOML: a key for each flag, bundles for BUNDLE"
    )
    parser.add_argument(
        "--check", action="store_true", help="open everything, run the canary rows, print what was found, and exit"
    )
    parser.add_argument("--json", action="store_true", help="with --check: print one JSON object")
    add_adapter_flags(parser)


def _add_access_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where the server listens, and to whom."""
    parser.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help="answer only requests with an API key; FILE (TOML) has a table for each: sha256, and optionally admin, "
        "requests_per_minute, tokens_per_minute (default: answer anybody)",
    )
    add_tls_flags(parser)
    parser.add_argument(
        "--root-path",
        default="",
        type=root_path,
        metavar="PATH",
        help="path under which a proxy has this server, and which it takes away, such as /nlp",
    )
    parser.add_argument(
        "--cors-origin",
        action="append",
        type=origin,
        default=[],
        metavar="ORIGIN",
        help="let pages of this origin call the server from a browser, such as https://example.org; * is any",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--grpc-port",
        type=port,
        help="serve the Open Inference Protocol over gRPC as well, on this port (needs the extra grpc)",
    )
    add_worker_flags(parser)
    parser.add_argument("--port", type=port, default=8080, help="port; 0 takes a free one (default: %(default)s)")
