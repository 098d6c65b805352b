"""Models, tensors and inference of the Open Inference Protocol (v2), the same over HTTP and gRPC."""
