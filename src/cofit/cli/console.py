"""How the commands print: tables of text, never wrapped where the output is no terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

UNWRAPPED_COLUMNS = 200


def console() -> Console:
    """Standard output; texts are printed as they are, without markup."""
    width = None if sys.stdout.isatty() else UNWRAPPED_COLUMNS
    return Console(width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> Table:
    """A plain table; the columns named in `right` hold numbers."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        found.add_row(*row)
    return found


def print_json(value: Any) -> None:
    """JSON on standard output."""
    print(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False))
