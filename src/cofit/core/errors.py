"""Every error a user can cause.

The text of each names the thing, its value, what would be accepted and what to do next, on one
line; the command line prints that line and exits 2. `assert` stays for our own bugs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CofitError(Exception):
    """Root of all errors that cofit raises on purpose."""


class ConfigError(CofitError, ValueError):
    """A configuration value (call argument, command option, TOML key) is not acceptable."""


class BudgetError(ConfigError):
    """A budget text cannot be read, or names a metric the target does not have."""


class DataError(CofitError, ValueError):
    """A data set is missing, empty, malformed, or does not fit the network."""


class ModelError(CofitError, ValueError):
    """A network or its weights cannot be loaded or traced."""


class FileError(CofitError, OSError):
    """A file cannot be read or written."""


class StructureError(CofitError, ValueError):
    """A structure does not apply to a weight, or a weight violates its structure."""


class TargetError(CofitError, ValueError):
    """A target is unknown or cannot carry the program (for example, flash is exceeded)."""


class UnsupportedOpError(CofitError, TypeError):
    """A network contains an operator cofit cannot represent or compile."""


class BuildError(CofitError, RuntimeError):
    """The C compiler is missing or refused the generated code."""


class EmulationError(CofitError, RuntimeError):
    """The emulated program crashed, ran away, or touched memory it does not own."""


class VerificationError(CofitError, RuntimeError):
    """A compiled program does not compute what its network computes."""


class CommunicationError(CofitError, RuntimeError):
    """Another process of a distributed training is gone, or does not answer in time."""


class InfeasibleError(CofitError, ValueError):
    """No plan meets the budget; the text says which limit binds and the reachable minimum."""


class MissingDependencyError(CofitError, ImportError):
    """An optional package is absent; the text names the extra to install."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed; "
            f"install it with: pip install 'cofit[{extra}]'"
        )


class UnknownNameError(ConfigError, KeyError):
    """A name is not in a table; the text lists the table and the nearest known name."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        self.text = f"unknown {what} {name!r}{hint}; known: {', '.join(names) or 'none'}"
        super().__init__(self.text)

    def __str__(self) -> str:
        return self.text  # KeyError would print the repr
