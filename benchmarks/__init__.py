"""One file a claim: each measures it, prints its worst ratio last, and writes the figures as JSON."""

import serve  # noqa: F401 - turns ONNX Runtime's telemetry off before a module here imports it
