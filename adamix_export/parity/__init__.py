"""Compare a bundle in ONNX Runtime with its checkpoint in PyTorch."""
