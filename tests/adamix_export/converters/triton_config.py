"""Parse a Triton configuration by its schema: `triton_config.py CONFIG OUT`; run by the interpreter of its peer."""

import sys
from importlib import import_module
from pathlib import Path


def main(config, out):
    schema = import_module("tritonclient.grpc.model_config_pb2")
    text_format, json_format = (import_module(f"google.protobuf.{name}") for name in ("text_format", "json_format"))
    message = text_format.Parse(Path(config).read_text("utf-8"), schema.ModelConfig())
    Path(out).write_text(json_format.MessageToJson(message, preserving_proto_field_name=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
