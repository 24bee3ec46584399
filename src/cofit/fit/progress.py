"""How a fit tells where it is; the command line draws it, the library stays silent."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (stage, steps done, all steps of the stage)."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""
