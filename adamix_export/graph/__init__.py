"""From torch modules to ONNX graphs with ONNX Runtime's fused operators."""
