"""Run a bundle over the rows of a data file, without a server and without torch."""

import serve  # noqa: F401 - turns ONNX Runtime's telemetry off before a module here imports it
