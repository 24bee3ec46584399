"""Failures of the command line: one line on stderr and an exit status, in one place.

0: done. 2: something the user can mend. 3: a fit ended, but its budget is not met.
130: interrupted. 1: a bug of cofit, with its traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from cofit.cli.app import app

REPORT = "this is a bug in cofit; please report it with the lines above"
INTERRUPTED = "interrupted; the same command goes on where a fit stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: words after `cofit`; those of this process if absent.
    """
    try:
        status = app(arguments, prog_name="cofit", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except typer.TyperException as error:
        return _fail(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        return _fail(INTERRUPTED, 130)
    except Exception as error:
        if (text := _explained(error)) is not None:
            return _fail(text)
        traceback.print_exception(error)
        return _fail(REPORT, 1)
    if status == 130:  # what typer makes of Ctrl-C
        return _fail(INTERRUPTED, 130)
    return status if isinstance(status, int) else 0


def _fail(text: str, status: int = 2) -> int:
    print("error:", " ".join(text.splitlines()), file=sys.stderr)
    return status


def _usage(error: typer.TyperException) -> str:
    """Typer's own complaint, and what it would have accepted."""
    text = error.format_message().rstrip(".")
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is None:
        return text
    if hasattr(error, "possibilities"):  # an unknown option
        known = [o for p in context.command.params for o in p.opts if o.startswith("--")]
        return f"{error.message}; options: {', '.join(known)}"
    if (commands := getattr(context.command, "commands", None)) is not None:
        return f"{text}; commands: {', '.join(commands)}"
    return f"{text}; see '{context.command_path} --help'"


def _explained(error: Exception) -> str | None:
    """The line that explains an error which is no bug, else None."""
    from cofit.core import CofitError  # whatever raised it has imported torch already

    if isinstance(error, CofitError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename!r}" if error.filename else ""
        return f"the system refused{place}: {error.strerror}; check space and permissions"
    return None
