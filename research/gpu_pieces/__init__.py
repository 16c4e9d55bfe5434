"""What `research/gpu.py` does on a GPU, piece by piece. Only `internals.py` knows the inside of memfix."""
