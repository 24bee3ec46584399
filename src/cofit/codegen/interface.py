"""The C around the steps: prologue, header, and the entry points that call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cofit.codegen.machine import Machine
from cofit.codegen.planner import MemoryPlan


@dataclass(frozen=True)
class Interface:
    """What the caller of a program sees."""

    name: str
    machine: Machine
    plan: MemoryPlan
    input_offset: int
    input_bytes: int
    output_offset: int
    output_bytes: int


def prologue(name: str) -> str:
    """What every translation unit begins with."""
    return f"""\
#if defined(COFIT_PROFILE) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 199309L
#endif
#include "{name}.h"
#include <stdint.h>
#ifdef COFIT_PROFILE
#include <time.h>
#endif

#define COFIT_NOINLINE __attribute__((noinline))
"""


def header(public: Interface) -> str:
    """NAME.h."""
    upper, name = public.name.upper(), public.name
    return f"""\
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>

#define {upper}_ARENA_BYTES {max(public.plan.arena_bytes, 1)}
#define {upper}_ARENA_ALIGN {public.machine.alignment_bytes}
#define {upper}_INPUT_OFFSET {public.input_offset}
#define {upper}_INPUT_BYTES {public.input_bytes}
#define {upper}_OUTPUT_OFFSET {public.output_offset}
#define {upper}_OUTPUT_BYTES {public.output_bytes}

/* Write the input into the arena, run, read the output from the arena. */
void {name}_run(void *arena);
#ifdef COFIT_STEPS
/* Run one step; steps in order are a run. */
void {name}_step(int index, void *arena);
#endif
#ifdef COFIT_PROFILE
/* Run once and add the seconds of each step to seconds[step]. */
void {name}_profile(void *arena, double *seconds);
/* Run n inputs that lie one after the other in x; outputs likewise in y. */
void {name}_batch(void *arena, const void *x, void *y, size_t n);
#endif

#endif
"""


def entry_points(public: Interface, calls: Sequence[str], turn: tuple[str, str]) -> str:
    """NAME_run and its kin, of one call per step, all within what opens and closes a turn."""
    name, upper = public.name, public.name.upper()
    base = "    uint8_t *const base = arena;\n" if calls else "    (void)arena;\n"
    begin, end = turn
    run = begin + "".join(f"    {call}\n" for call in calls) + end
    cases = "".join(f"    case {i}: {call} break;\n" for i, call in enumerate(calls))
    timed = "".join(
        f"    {call}\n    now = {name}_now();\n    seconds[{i}] += now - then;\n    then = now;\n"
        for i, call in enumerate(calls)
    )
    return f"""\
void {name}_run(void *arena)
{{
{base}{run}}}

#ifdef COFIT_STEPS
void {name}_step(int index, void *arena)
{{
{base}{begin}    switch (index) {{
{cases}    default: break;
    }}
{end}}}
#endif

#ifdef COFIT_PROFILE
static double {name}_now(void)
{{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}}

void {name}_profile(void *arena, double *seconds)
{{
{base}{begin}    double then = {name}_now(), now = then;
{timed}{end}    (void)now;
    (void)then;
    (void)seconds;
}}

void {name}_batch(void *arena, const void *x, void *y, size_t n)
{{
    const uint8_t *from = x;
    uint8_t *base = arena, *to = y;
    for (size_t i = 0; i < n; ++i) {{
        __builtin_memcpy(base + {upper}_INPUT_OFFSET, from + i * {upper}_INPUT_BYTES,
                         {upper}_INPUT_BYTES);
        {name}_run(arena);
        __builtin_memcpy(to + i * {upper}_OUTPUT_BYTES, base + {upper}_OUTPUT_OFFSET,
                         {upper}_OUTPUT_BYTES);
    }}
}}
#endif
"""
