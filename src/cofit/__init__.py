"""cofit: fit networks to their hardware, and hardware to its networks."""

__version__ = "0.1.0"
