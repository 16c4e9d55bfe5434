"""Optimizer steps on an objective: the loop, its ranks, checkpoints, validation and when it ends."""
