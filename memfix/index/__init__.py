"""Descriptors of a reference set on disk, and the search for near-copies in it."""
