"""The Open Inference Protocol (v2), which KServe's and Triton's clients speak."""
