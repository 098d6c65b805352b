"""Collapse mixtures into single adapters and write them as ONNX bundles and standalone adapters."""
