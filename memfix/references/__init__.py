"""Training images that samples are compared with, in memory or in an index, and the one judge of what copies them."""
