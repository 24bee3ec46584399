"""A C program that runs generated programs on stored vectors under a compiler's sanitisers.

Before every step all of the arena is poisoned but the tensors that the step reads and writes and
its scratch, so a read or write one byte beside its own buffers stops the process.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

import numpy as np

from cofit.codegen.build import build
from cofit.codegen.c_text import declare
from cofit.codegen.emit import Source
from cofit.codegen.host import _alternatives, build_flags
from cofit.codegen.kernel import Constant
from cofit.codegen.layout import to_memory
from cofit.codegen.storage import SCRATCH
from cofit.ir import quantise_input, run_integer

SANITISERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

_MAIN = """\
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
{includes}
void __asan_poison_memory_region(const volatile void *, size_t);
void __asan_unpoison_memory_region(const volatile void *, size_t);

static int wrong;
static uint8_t *arena;

static void begin(size_t align, size_t size, const void *x, size_t offset, size_t bytes)
{{
    void *place;
    if (posix_memalign(&place, align, size)) exit(3);
    arena = place;
    memset(arena, 0xAA, size);
    memcpy(arena + offset, x, bytes);
}}

static void end(size_t size, const char *name, const void *y, size_t offset, size_t bytes)
{{
    __asan_unpoison_memory_region(arena, size);
    if (memcmp(arena + offset, y, bytes)) {{
        fprintf(stderr, "%s differs\\n", name);
        wrong = 1;
    }}
    free(arena);
}}

{functions}
int main(void)
{{
{calls}    return wrong;
}}
"""


def sanitised(sources: Sequence[Source], inputs: Sequence[np.ndarray], compiler: str) -> str | None:
    """None if all native integer programs run clean and right, else what was said."""
    functions = [_function(s, x) for s, x in zip(sources, inputs, strict=True)]
    files = {f"{source.name}.h": source.header for source in sources}
    units: dict[tuple[str, ...], list[Source]] = {}
    for source in sources:
        units.setdefault(_alternatives(source), []).append(source)
    for together in units.values():
        files[f"{together[0].name}.c"] = "\n".join(source.source for source in together)
    files["main.c"] = _MAIN.format(
        includes="".join(f'#include "{source.name}.h"\n' for source in sources),
        functions="\n".join(functions),
        calls="".join(f"    test_{source.name}();\n" for source in sources),
    )
    flags = (*build_flags(sources[0], "-O1"), *SANITISERS, "-g", "-DCOFIT_STEPS")
    program = build(files, (*flags, "-D_POSIX_C_SOURCE=200809L"), "sanitised", compiler)
    result = subprocess.run(
        [str(program)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
    )
    return None if result.returncode == 0 else result.stderr[:4000] or f"rc {result.returncode}"


def _function(source: Source, x: np.ndarray) -> str:
    """C of one inference on the first of the real inputs, step by step."""
    graph, plan, name = source.graph, source.plan, source.name
    stored = quantise_input(graph, x[:1])
    wanted = run_integer(graph, {graph.inputs[0]: stored})[graph.outputs[0]]
    given, expected = to_memory(stored), to_memory(wanted)
    size = max(plan.arena_bytes, 1)
    lines = [
        f"    begin({source.machine.alignment_bytes}, {size}, x, {source.offsets[source.entry]}, "
        f"{given.nbytes});"
    ]
    for index, step in enumerate(source.steps):
        spans = [(source.offsets[n], graph.tensors[n].nbytes) for n in (*step.reads, step.writes)]
        if step.code.scratch_bytes:
            spans.append((plan.offsets[SCRATCH.format(index)], step.code.scratch_bytes))
        lines.append(f"    __asan_poison_memory_region(arena, {size});")
        lines += [f"    __asan_unpoison_memory_region(arena + {a}, {n});" for a, n in spans]
        lines.append(f"    {name}_step({index}, arena);")
    lines.append(f'    end({size}, "{name}", y, {source.offsets[source.exit]}, {expected.nbytes});')
    arrays = "\n".join(declare(Constant(n, v, 16)) for n, v in (("x", given), ("y", expected)))
    return f"static void test_{name}(void)\n{{\n{arrays}\n" + "\n".join(lines) + "\n}\n"
