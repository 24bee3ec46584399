"""Floor 9: the command `cofit`.

`app` declares the commands; their work lies in one module each, imported when the command runs, so
that `cofit --help` need not wait for torch. `errors` is where every failure becomes one line.
"""

from cofit.cli.errors import main

__all__ = ["main"]
