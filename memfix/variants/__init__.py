"""Wordings and embeddings near a prompt: for keep images, and for finding out what a model still holds."""
