"""The words that settle how an index is stored. Light enough for the command line to load."""

from memfix.records import Word


class Precision(Word):
    """Of the stored vectors. float16 halves the disk and changes a cosine by about 1e-4."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Compression(Word):
    """Of the candidates of approximate search: a byte a number, or 64 bytes a vector."""

    SQ8 = "sq8"
    PQ = "pq"
