"""Graphs in other precisions than the one they were traced in, fp32."""
