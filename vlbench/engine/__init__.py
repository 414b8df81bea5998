"""The two loops and what they need; knows tensors, not methods or tasks."""
