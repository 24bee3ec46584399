"""Floor 8: published systems, one file each, re-measured by `cofit reproduce NAME`."""

from cofit.reproductions.harness import (
    Finding,
    Scale,
    known_reproductions,
    reproduce,
    reproduction,
    state,
)

__all__ = ["Finding", "Scale", "known_reproductions", "reproduce", "reproduction", "state"]
