"""Serve bundles on ONNX Runtime; this package imports neither torch nor transformers nor the rest of the project."""
