"""What differs between exports by what was learned: the graph, the canaries, and how it is compared with PyTorch."""
