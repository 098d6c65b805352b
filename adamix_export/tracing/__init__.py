"""The torch half of an export: modules made traceable, and torch.onnx.export."""
