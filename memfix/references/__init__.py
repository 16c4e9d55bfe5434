"""Training images that samples are compared with, and the one judge of what is a copy of them."""
