"""Comparison of a bundle in ONNX Runtime with its checkpoint in PyTorch."""
