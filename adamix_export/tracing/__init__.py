"""Export with torch: traceable modules, and torch.onnx.export."""
