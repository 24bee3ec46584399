"""Measurements of cofit beside its peers; every result says on what, with what and when."""
