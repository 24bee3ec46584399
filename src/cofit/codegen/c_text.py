"""C spelling of names, numbers and const arrays; the same values always give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant
from cofit.core import ModelError
from cofit.ir import DType

C_TYPES: dict[str, str] = {
    "float32": "float",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "uint32": "uint32_t",
}
SUPPORT = Path(__file__).parent / "c"
LIST_BYTES = 2048
_HIDDEN = '(visibility("hidden"))'
# every byte as itself or in three octal digits; "?" could begin a trigraph
_CHARACTERS = [
    chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in range(256)
]
_INCLUDE = re.compile(r'#include "([^"]+)"\n')


def c_type(dtype: DType) -> str:
    """C type of a tensor's elements."""
    return C_TYPES[dtype.value]


def identifier(text: str) -> str:
    """A C identifier that resembles `text`."""
    name = re.sub(r"[^0-9A-Za-z_]", "_", text)
    return name if re.match(r"[A-Za-z]", name) else f"n{name}"


def program_name(text: str) -> str:
    """An identifier that resembles `text` and begins no name of the support code."""
    name = identifier(text)
    return f"n{name}" if name.lower().startswith(("cofit", "s8")) else name


def unique_identifiers(texts: Iterable[str], reserved: Iterable[str] = ()) -> list[str]:
    """An identifier per text; those that collide, also with reserved ones, are numbered."""
    taken = set(reserved)
    names: list[str] = []
    for text in texts:
        base = identifier(text)
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        names.append(name)
    return names


def comment(text: str) -> str:
    """`text` made safe inside a C comment."""
    return re.sub(r"[^\w .,:;=()\[\]<>@+%-]", "_", text, flags=re.ASCII)


def number(value: float) -> str:
    """A float literal that reads back as the same float32."""
    text = f"{float(np.float32(value)):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def array_name(constant: Constant) -> str:
    """The array itself as a C expression; unlike its name, always an address constant."""
    return f"{constant.name}_data.values" if _is_text(constant) else constant.name


def _is_text(constant: Constant) -> bool:
    return constant.values.nbytes > LIST_BYTES


def declare(constant: Constant) -> str:
    """The definition of a const array.

    Short arrays are lists of numbers (floats with nine digits and no suffix: they pass through
    double and still round to themselves). Long ones are the same bytes as a string literal, which
    compilers read some forty times faster than a list.
    """
    values = np.ascontiguousarray(constant.values).ravel()
    kind, name = C_TYPES[values.dtype.name], constant.name
    align = f"__attribute__((aligned({constant.align_bytes})))"
    check_finite(constant)
    if _is_text(constant):
        return (
            f"static const {_union(constant)} {name}_data {align} = {{\n{_literal(values)}}};\n"
            f"static const {kind} *const {name} __attribute__((unused)) = {array_name(constant)};"
        )
    if values.dtype.kind == "f":
        items, per_line = ("%.9g " * values.size % tuple(values.tolist())).split(), 8
    else:
        items, per_line = list(map(str, values.tolist())), 20
    rows = (", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line))
    text = ",\n    ".join(rows)
    return f"static const {kind} {name}[{values.size}] {align} = {{\n    {text}}};"


def declare_union(constant: Constant, symbol: str) -> str:
    """Declaration at file scope of a long constant that is defined elsewhere."""
    check_finite(constant)
    return f"extern const {_union(constant, symbol)} {symbol} __attribute__({_HIDDEN});"


def define_union(constant: Constant, symbol: str) -> str:
    """The definition of a long constant after its declaration."""
    values = np.ascontiguousarray(constant.values).ravel()
    align = f"__attribute__((aligned({constant.align_bytes})))"
    return f"const union {symbol}_bytes {symbol} {align} = {{\n{_literal(values)}}};"


def use_union(constant: Constant, symbol: str) -> str:
    """What makes `symbol` known to code that calls the constant by its own name."""
    kind, name = C_TYPES[constant.values.dtype.name], constant.name
    return (
        f"#define {name}_data {symbol}\n"
        f"static const {kind} *const {name} __attribute__((unused)) = {array_name(constant)};"
    )


def check_finite(constant: Constant) -> None:
    """Refuse floats that no C literal spells.

    Raises:
        ModelError: NaN or infinity among the values.
    """
    if constant.values.dtype.kind == "f" and not np.isfinite(constant.values).all():
        raise ModelError(
            f"constant {constant.name!r} holds NaN or infinity; repair the network's weights"
        )


def _union(constant: Constant, symbol: str | None = None) -> str:
    """The type of a long constant; one byte more, for the end of the literal."""
    values = constant.values
    tag = "" if symbol is None else f" {symbol}_bytes"
    kind = C_TYPES[values.dtype.name]
    return f"union{tag} {{ char bytes[{values.nbytes + 1}]; {kind} values[{values.size}]; }}"


def _literal(values: NDArray[np.generic]) -> str:
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    lines = (data[i : i + 32] for i in range(0, len(data), 32))
    return "\n".join('    "' + "".join([_CHARACTERS[b] for b in line]) + '"' for line in lines)


def support_text(names: Iterable[str]) -> str:
    """Text of the support files, each once, after those it includes.

    Guarded, so that several programs can be one translation unit.
    """
    done: dict[str, str] = {}

    def visit(name: str) -> None:
        if name in done:
            return
        text = (SUPPORT / name).read_text(encoding="utf-8")
        for needed in _INCLUDE.findall(text):
            visit(needed)
        guard = f"COFIT_{identifier(name).upper()}"
        body = _INCLUDE.sub("", text).strip("\n")
        done[name] = f"#ifndef {guard}\n#define {guard}\n{body}\n#endif\n"

    for name in names:
        visit(name)
    return "\n".join(done.values())
