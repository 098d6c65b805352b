"""ONNX Runtime: providers, sessions, device memory, and the cache of optimised graphs."""
