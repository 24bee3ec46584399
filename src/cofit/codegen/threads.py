"""What a program of several threads adds to its source: tasks of the pool in c/threads.h."""

from __future__ import annotations

from collections.abc import Sequence

from cofit.codegen.kernel import KernelCode

SUPPORT = "threads.h"
PITCH_BYTES = 128  # between the scratch of two shares: no cache line, nor its neighbour, in common


def scratch_pitch(code: KernelCode) -> int:
    """Bytes from the scratch of one share to that of the next."""
    return -(-code.scratch_bytes // PITCH_BYTES) * PITCH_BYTES


def scratch_bytes(code: KernelCode) -> int:
    """Scratch of all shares of a step."""
    return code.scratch_bytes if code.shares == 1 else code.shares * scratch_pitch(code)


def shared_calls(
    codes: Sequence[KernelCode], functions: Sequence[str], calls: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Definitions of the tasks, and the calls in which shared steps are given to the pool."""
    tasks, given = [], []
    for index, (code, function, call) in enumerate(zip(codes, functions, calls, strict=True)):
        if code.shares == 1:
            given.append(call)
            continue
        task = f"cofit_task{index}_{function}"  # stripes share a function, not their buffers
        tasks.append(f"static void {task}(uint8_t *base, int share)\n{{\n    {call}\n}}\n")
        given.append(f"cofit_share({task}, base, {code.shares});")
    return tasks, given


def turn(codes: Sequence[KernelCode]) -> tuple[str, str]:
    """C that opens and closes a run; nothing where no step is shared."""
    most = max((code.shares for code in codes), default=1)
    return ("", "") if most == 1 else (f"    cofit_open({most});\n", "    cofit_close();\n")
