"""Pairs → objective → combiner → trainer."""
