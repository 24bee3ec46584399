"""Linking, emulation and exact counting, on hand-written C that exercises what kernels use."""

import functools
import re
import shutil
from collections import Counter

import capstone
import numpy as np
import pytest
from unicorn import unicorn_const as uc

from cofit.codegen.cortex_m import Emulator, Linked, board, decode, histogram, link, predict
from cofit.codegen.machine import machine
from cofit.core import BuildError, EmulationError, TargetError, numpy_generator

pytestmark = pytest.mark.device

PROGRAM = """
#include <stdint.h>
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

int32_t dot(const int8_t *a, const int8_t *b, int n);
int32_t clamped(const int8_t *a, int n, int low, int high);
int32_t pairs(uint32_t a, uint32_t b, int32_t c);
int32_t fibonacci(int n);
int32_t norm(const int8_t *a, int n);
int32_t deep(int n);
int32_t nested(const int8_t *a, int n, int low, int high);
int32_t poke(uint32_t address);
int32_t peek(uint32_t address);
int32_t spin(int n);
int32_t fill(const int8_t *a, int n, int low, int high);
int main(void);

int8_t buffer[256];
int32_t counter = 41;
static const int8_t table[64] = {1, -2, 3, -4, 5, -6, 7, -8, 9};

__attribute__((noinline)) int32_t dot(const int8_t *a, const int8_t *b, int n) {
  static const int8_t bias[8] = {3, 1, 4, 1, 5, 9, 2, 6};
  int32_t sum = bias[n & 7];
  for (int i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}
int32_t clamped(const int8_t *a, int n, int low, int high) {
  int32_t sum = 0;
  for (int i = 0; i < n; ++i) {
    int v = 3 * a[i];
    if (v < low) v = low;
    if (v > high) v = high;
    if (v & 1) sum += v;
    else sum -= 2;
  }
  return sum;
}
int32_t pairs(uint32_t a, uint32_t b, int32_t c) {
  uint32_t x, y;
  int32_t r;
  __asm__("sxtb16 %0, %1" : "=r"(x) : "r"(a));
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(y) : "r"(b));
  __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(x), "r"(y), "r"(c));
  return r;
}
int32_t fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
int32_t norm(const int8_t *a, int n) {
  float sum = 0.0f;
  for (int i = 0; i < n; ++i) sum += (float)a[i] * (float)a[i] / (float)(i + 1);
  return (int32_t)(1000.0f * __builtin_sqrtf(sum));
}
int32_t deep(int n) {
  volatile char room[100];
  room[n & 63] = (char)n;
  return n == 0 ? room[0] : deep(n - 1) + room[n & 63];
}
int32_t nested(const int8_t *a, int n, int low, int high) {
  return dot(a, table, n) + clamped(a, n, low, high);
}
int32_t poke(uint32_t address) { *(volatile uint8_t *)address = 9; return 0; }
int32_t peek(uint32_t address) { return *(volatile uint8_t *)address; }
int32_t spin(int n) {
  volatile int i = n;
  while (i == 7) i = n;
  return n;
}
int32_t fill(const int8_t *a, int n, int low, int high) {
  memset(buffer, low, sizeof buffer);
  memcpy(buffer + high, a, (size_t)n);
  memmove(buffer + high + 3, buffer + high, (size_t)n);
  memmove(buffer, buffer + 5, 100);
  return buffer[high + 4];
}
typedef int32_t (*any)(void);
extern void *volatile roots[];
void *volatile roots[] = {(void *)dot, (void *)clamped, (void *)pairs, (void *)fibonacci,
                          (void *)norm, (void *)deep, (void *)nested, (void *)poke,
                          (void *)peek, (void *)spin, (void *)fill};
int main(void) {
  counter += roots[0] != 0;
  return 0;
}
"""


@functools.cache
def linked(core: str = "cortex-m4") -> Linked:
    return link({"program.c": PROGRAM}, machine(core), board("stm32f446"))


def emulator(core: str = "cortex-m4", **contexts: list[str]) -> Emulator:
    found = Emulator(linked(core).image, machine(core), **contexts)
    found.boot()
    return found


def place(device: Emulator, values: np.ndarray) -> int:
    """Write values into the program's buffer and return their address."""
    address = linked().image.address("buffer")
    device.write(address, values.tobytes())
    return address


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7"])
def test_functions_compute_what_c_says(core):
    device = emulator(core)
    image = linked(core).image
    a = numpy_generator(0, "a").integers(-128, 128, 64).astype(np.int8)
    table = np.zeros(64, np.int64)
    table[:9] = [1, -2, 3, -4, 5, -6, 7, -8, 9]
    at = image.address("buffer")
    device.write(at, a.tobytes())
    assert _signed(device.call("dot", at, image.address("table"), 64)) == 3 + a @ table
    v = np.clip(3 * a.astype(int), -100, 77)
    assert _signed(device.call("clamped", at, 64, -100 & 0xFFFFFFFF, 77)) == int(
        np.where(v & 1, v, -2).sum()
    )
    # 0x80FF7F01: bytes 01 7F FF 80; sxtb16 takes bytes 0 and 2, with ror 8 bytes 1 and 3
    assert _signed(device.call("pairs", 0x80FF7F01, 0x80FF7F01, 1000)) == (
        1000 + 1 * 127 + (-1) * (-128)
    )
    assert device.call("fibonacci", 12) == 144
    expected = np.float32(0)
    for i, x in enumerate(a.astype(np.float32)):
        expected += x * x / np.float32(i + 1)
    assert device.call("norm", at, 64) == pytest.approx(1000 * np.sqrt(expected), rel=1e-5)


def test_reset_copies_data_and_zeroes_bss():
    device = Emulator(linked().image, machine("cortex-m4"))
    image = linked().image
    device.write(image.address("buffer"), b"\xaa" * 256)
    device.boot()
    assert device.read(image.address("buffer"), 256) == bytes(256)
    assert device.read(image.address("counter"), 4) == (41).to_bytes(4, "little")
    device.call("main")
    assert device.read(image.address("counter"), 4) == (42).to_bytes(4, "little")
    device.call("Reset_Handler")  # all of it, main included, from the flash image
    assert device.read(image.address("counter"), 4) == (42).to_bytes(4, "little")


def test_memory_functions_move_every_byte():
    device = emulator()
    buffer, code = linked().image.address("buffer"), 0x08000040
    source = device.read(code, 64)  # the program itself serves as the source
    for size in (0, 1, 3, 4, 15, 16, 17, 37, 64):
        for offset in (0, 1, 2, 5, 120):
            device.call("fill", code, size, 0x5A, offset)
            want = bytearray(b"\x5a" * 256)
            want[offset : offset + size] = source[:size]
            want[offset + 3 : offset + 3 + size] = want[offset : offset + size]
            want[0:100] = want[5:105]
            assert device.read(buffer, 256) == bytes(want), (size, offset)


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7"])
def test_block_counts_equal_single_stepping(core):
    """The native hook's counts, address by address, are those of a hook at every instruction.

    The emulator does not call the latter for instructions whose IT condition fails; a core spends
    their cycle, and we count them: as often as their IT instruction.
    """
    buffer, table = (linked(core).image.address(name) for name in ("buffer", "table"))
    seen_conditional = False
    for name, arguments in (
        ("dot", (buffer, table, 37)),
        ("clamped", (buffer, 61, -90 & 0xFFFFFFFF, 50)),
        ("fibonacci", (9,)),
        ("norm", (buffer, 33)),
        ("deep", (7,)),
        ("nested", (buffer, 64, 0, 5)),
        ("fill", (0x08000040, 45, 1, 7)),
    ):
        device = emulator(core)
        place(device, numpy_generator(1, name).integers(-128, 128, 64).astype(np.int8))
        device.call(name, *arguments)
        profile = device.profile()
        executed = profile.executed(len(device.code) // 2)
        it_of = conditional(device.code, profile.base)

        stepped: Counter[int] = Counter()
        jumped: Counter[int] = Counter()
        last = [0]

        def see(engine, address, size, data, c=(stepped, jumped, last, it_of)):
            stepped, jumped, last, it_of = c
            stepped[address] += 1
            while last[0] != address and last[0] in it_of:
                last[0] += it_of[last[0]][1]  # its condition failed
            if last[0] and last[0] != address:
                jumped[last[0]] += 1
            last[0] = address + size

        slow = emulator(core)
        place(slow, numpy_generator(1, name).integers(-128, 128, 64).astype(np.int8))
        slow._engine.hook_add(uc.UC_HOOK_CODE, see)
        slow.call(name, *arguments)
        jumped[last[0]] += 1  # the return that ended the call

        expected = Counter(stepped)
        for address, (it, _) in it_of.items():
            seen_conditional |= stepped[address] < stepped[it]
            expected[address] = stepped[it]
        assert profile.instructions == device.instructions == sum(expected.values()), name
        for address, count in expected.items():
            assert executed[(address - profile.base) // 2] == count, (name, hex(address))
        taken = dict(zip(profile.ends.tolist(), profile.taken.sum(axis=0).tolist(), strict=True))
        assert {profile.base + 2 * end: count for end, count in taken.items()} == jumped
        classes = histogram(profile, decode(profile, device.code))
        assert sum(counts.sum() for counts in classes.values()) == profile.instructions
    assert seen_conditional


def conditional(code: bytes, base: int) -> dict[int, tuple[int, int]]:
    """Address -> (address of its IT instruction, size) of the instructions in IT blocks."""
    engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    engine.skipdata = True
    found: dict[int, tuple[int, int]] = {}
    it, left = 0, 0
    for address, size, mnemonic, _ in engine.disasm_lite(code[64:], base + 64):
        if re.fullmatch("it[te]*", mnemonic):
            it, left = address, len(mnemonic) - 1
        elif left:
            found[address] = (it, size)
            left -= 1
    return found


def test_instructions_belong_to_the_step_that_called():
    """`dot` counts apart; `clamped` inside `nested` belongs to the caller; sums agree."""
    apart = emulator(steps=["dot"], callers=["nested"])
    at = place(apart, numpy_generator(2, "a").integers(-128, 128, 64).astype(np.int8))
    apart.call("nested", at, 64, 0, 9)
    inside, outside = apart.profile().per_context.tolist()
    alone = emulator()
    place(alone, np.frombuffer(apart.read(at, 64), np.int8))
    alone.call("dot", at, linked().image.address("table"), 64)
    assert inside == alone.instructions
    alone.call("nested", at, 64, 0, 9)
    assert inside + outside == alone.instructions


def test_helpers_called_by_a_step_are_counted_with_it():
    device = emulator(steps=["fill"])
    device.call("fill", 0x08000040, 64, 0, 0)
    inside, outside = device.profile().per_context.tolist()
    assert outside == 0
    assert inside > 64 / 4 * 2  # memcpy alone loads and stores 16 words


def test_stack_high_water():
    device = emulator()
    marks = []
    for depth in (0, 1, 10):
        device.call("deep", depth)
        marks.append(device.stack_high_water_bytes)
    frame = marks[1] - marks[0]
    assert frame >= 100
    assert marks[2] - marks[0] == 10 * frame


@pytest.mark.parametrize(
    ("function", "argument", "text"),
    [
        ("deep", 100_000, "the stack overflowed"),
        ("poke", 0x08000000, "wrote to flash"),
        ("poke", 0x40000000, "wrote outside RAM"),
        ("peek", 0x60000000, "read outside flash and RAM"),
        ("poke", "cofit_bss_end", "0 bytes behind the end of .bss"),
        ("poke", "cofit_stack_top-1", "stack of its caller"),
        ("cofit_fault", 0, "cofit_fault"),
    ],
)
def test_foreign_memory_is_an_error(function, argument, text):
    device = emulator()
    if isinstance(argument, str):
        label, _, back = argument.partition("-")
        argument = linked().image.address(label) - int(back or 0)
    with pytest.raises(EmulationError, match=text) as caught:
        device.call(function, argument)
    assert function in str(caught.value)
    assert "\n" not in str(caught.value)
    assert device.call("fibonacci", 5) == 5, "the device is usable after an error"


def test_runaway_ends_at_the_budget():
    with pytest.raises(EmulationError, match=r"spin.*1000 instructions"):
        emulator().call("spin", 7, budget=1000)


def test_unknown_function_is_named():
    with pytest.raises(EmulationError, match="no_such_function"):
        emulator().call("no_such_function")


def test_prediction_equals_the_linked_image():
    for core in ("cortex-m4", "cortex-m7"):
        prediction, image = predict(linked(core).objects), linked(core).image
        assert prediction.missing == ()
        assert prediction.flash_bytes == image.flash_bytes
        assert prediction.ram_bytes == image.ram_bytes


def test_missing_builtins_are_named_not_guessed():
    source = "extern volatile long long v; volatile long long v = 3; int main(void);"
    source += "int main(void) { return (int)(v / v); }"
    program = link({"a.c": source}, machine("cortex-m4"), board("stm32f446"))
    prediction = predict(program.objects)
    assert prediction.missing == ("__aeabi_ldivmod",)
    assert prediction.flash_bytes < program.image.flash_bytes


def test_flash_belongs_to_functions_and_their_constants():
    image = linked().image
    own = image.symbols["dot"].size
    assert image.flash_of("dot") == own + 8  # its function-local bias table
    stored = [symbol for symbol in image.symbols.values() if symbol.address < 0x20000000]
    total = sum(symbol.size for symbol in stored) + image.sections[".data"]
    assert total <= image.flash_bytes < total + 4 * len(stored)  # the rest is alignment


def test_board_without_room_names_the_sections():
    source = "int main(void); {} int main(void) {{ return big[5]; }}"
    flash = source.format(
        "extern const volatile char big[600000]; const volatile char big[600000] = {1};"
    )
    ram = source.format("extern volatile char big[130000]; volatile char big[130000];")
    with pytest.raises(TargetError, match=r"flash \(.*\.rodata 600000.*stm32f446.*524288"):
        link({"a.c": flash}, machine("cortex-m4"), board("stm32f446"))
    with pytest.raises(TargetError, match=r"RAM \(\.stack 4096.*\.bss 130000.*stm32f446.*131072"):
        link({"a.c": ram}, machine("cortex-m4"), board("stm32f446"))
    assert link({"a.c": ram}, machine("cortex-m4"), board("nrf52840")).image.ram_bytes == 130000


def test_unresolved_names_are_a_build_error():
    source = "int absent(void); int main(void); int main(void) { return absent(); }"
    with pytest.raises(BuildError, match=r"program\.elf.*absent"):
        link({"a.c": source}, machine("cortex-m4"), board("stm32f446"))


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is not None, reason="gcc is installed")
def test_absent_gcc_is_named():
    with pytest.raises(BuildError, match="arm-none-eabi-gcc"):
        link({"program.c": PROGRAM}, machine("cortex-m4"), board("stm32f446"), "arm-none-eabi-gcc")


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="gcc is not installed")
def test_gcc_program_computes_the_same():
    image = link(
        {"program.c": PROGRAM}, machine("cortex-m4"), board("stm32f446"), "arm-none-eabi-gcc"
    ).image
    device = Emulator(image, machine("cortex-m4"))
    device.boot()
    assert device.call("fibonacci", 12) == 144


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value
