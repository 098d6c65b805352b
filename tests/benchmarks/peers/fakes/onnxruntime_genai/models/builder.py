"""The command line of onnxruntime-genai's builder, which writes down what it is asked for."""

import argparse
import json
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-i", "--input", required=True)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("-p", "--precision", required=True)
    parser.add_argument("-e", "--execution_provider", required=True)
    args = parser.parse_args()
    Path(args.output).mkdir()
    (Path(args.output) / "genai_config.json").write_text(json.dumps(vars(args)))
