"""The check: samples against references, verdicts."""
