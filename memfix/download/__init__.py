"""Fetching by URL: reference pictures of a list, published prompt lists, weights."""
