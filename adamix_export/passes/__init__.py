"""The ONNX half of an export: graph passes, which need no torch."""
