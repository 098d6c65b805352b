"""The HTTP layer: what clients send and receive; the one place that knows status codes."""
