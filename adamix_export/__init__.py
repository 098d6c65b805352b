"""Collapse mixtures into single adapters and write them as ONNX bundles and standalone adapters."""

import serve  # noqa: F401 - turns ONNX Runtime's telemetry off before a module here imports it
