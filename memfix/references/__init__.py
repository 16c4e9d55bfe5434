"""The references of a run: in memory or in an index, which of them are near-copies, how alike they are."""
