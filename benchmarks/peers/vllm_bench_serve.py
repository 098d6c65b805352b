"""Run `vllm bench serve` with the options given; the command itself asks for a package that vLLM for CPUs lacks."""

from importlib import import_module

parser = import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
benchmark = import_module("vllm.benchmarks.serve")

if __name__ == "__main__":
    benchmark.add_cli_args(parser)
    benchmark.main(parser.parse_args())
