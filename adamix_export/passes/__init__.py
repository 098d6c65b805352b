"""Passes over ONNX graphs; they need neither torch nor transformers."""
