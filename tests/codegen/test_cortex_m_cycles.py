"""The cycle model term by term on hand-worked cases, and on loops whose cycles are countable."""

import functools

import pytest

from cofit.codegen.cortex_m import Emulator, board, cycle_model, link, modelled_cycles
from cofit.codegen.cortex_m.decode import Instruction, classify
from cofit.codegen.machine import machine

A, B, C, D = (frozenset({n}) for n in (1, 2, 3, 4))
LOAD_A = Instruction("load", reads=C, writes=A, base=3)
LOAD_B = Instruction("load", reads=D, writes=B, base=4)
MAC_A = Instruction("mac", reads=A | B | C, writes=A, accumulator=1)
MAC_D = Instruction("mac", reads=B | C | D, writes=D, accumulator=4)
SET_A = Instruction("alu", writes=A)
SET_B = Instruction("alu", writes=B)
USE_A = Instruction("alu", reads=A, writes=C)
POP_3 = Instruction("load_multiple", words=3)
STORE = Instruction("store", reads=A | B, base=2)


@pytest.mark.parametrize(
    ("block", "m4", "m7"),
    [
        ([SET_A], 1, 1),
        ([SET_A, SET_B], 2, 1),  # a pair
        ([SET_A, USE_A], 2, 2),  # dependent: no pair
        ([SET_A, SET_B, USE_A], 3, 2),
        ([LOAD_A, SET_B], 3, 1),  # M4: 2 + 1; M7: a pair
        ([LOAD_A, USE_A], 3, 3),  # M7: the value comes two cycles after the load
        ([LOAD_A, LOAD_B, SET_B], 4, 2),  # M4: n loads take n + 1; M7: one memory pipe
        ([LOAD_A, STORE], 2, 3),  # M7: the store waits for the value
        ([STORE, LOAD_B], 3, 2),
        ([MAC_A, MAC_A], 2, 2),  # accumulating in a chain runs at full speed
        ([MAC_A, USE_A], 2, 3),  # another use waits
        ([MAC_A, MAC_D], 2, 2),  # one multiplier
        ([LOAD_A, MAC_D], 3, 1),  # the pair that a convolution is made of
        ([POP_3], 4, 3),  # M4: 1 + 3 words; M7: 1 + 2 beats of 8 bytes
    ],
)
def test_blocks_worked_by_hand(block, m4, m7):
    assert cycle_model("cortex-m4").block(block) == m4
    assert cycle_model("cortex-m7").block(block) == m7


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("smlad", "mac"), ("smlald", "mac"), ("umull", "mac"), ("mls", "mac"), ("smuad", "mac"),
        ("sxtb16", "dsp"), ("pkhbt", "dsp"), ("ssat", "dsp"), ("sxtb", "alu"), ("ubfx", "alu"),
        ("mov", "alu"), ("ldrsb", "load"), ("ldrd", "load_multiple"), ("vldr", "fp_load"),
        ("vfma", "fp_mac"), ("vmul", "fp"), ("vdiv", "fp_divide"), ("tbb", "branch"),
        ("b", "branch"), ("bic", "alu"), ("it", "it"), ("udiv", "divide"),
        ("stm", "store_multiple"),
    ],
)  # fmt: skip
def test_classes(name, kind):
    assert classify(name) == kind


LOOPS = """
int loop(int n);
int copy(int n, const int *from);
int main(void);
__attribute__((naked)) int loop(int n) {
  __asm__("1: subs r0, r0, #1\\n bne 1b\\n bx lr");
}
__attribute__((naked)) int copy(int n, const int *from) {
  __asm__("1: ldr r2, [r1], #4\\n ldr r3, [r1]\\n add r2, r2, r3\\n"
          "subs r0, r0, #1\\n bne 1b\\n bx lr");
}
static volatile int kept = 1;
int main(void) { return kept ? loop(1) + copy(1, (const int *)0x08000000) : 0; }
"""


@functools.cache
def program(core):
    found = board({"cortex-m4": "stm32f446", "cortex-m7": "stm32f746"}[core])
    device = Emulator(
        link({"loops.c": LOOPS.replace("int n)", "int n __attribute__((unused)))")
              .replace("from)", "from __attribute__((unused)))")}, machine(core), found).image,
        machine(core),
    )  # fmt: skip
    device.boot()
    return device


@pytest.mark.device
@pytest.mark.parametrize("n", [1, 2, 100])
def test_loops_on_m4(n):
    def cycles(function, *arguments):
        device = program("cortex-m4")
        device.call(function, *arguments)
        return modelled_cycles(device.profile(), device.code, machine("cortex-m4")).sum()

    jump = cycle_model("cortex-m4").taken_branch
    back = 1 + jump  # bx lr
    assert cycles("loop", n) == 2 * n + jump * (n - 1) + back
    assert cycles("copy", n, 0x08000000) == (3 + 1 + 2) * n + jump * (n - 1) + back


@pytest.mark.device
def test_m7_pairs_the_loop():
    device = program("cortex-m7")
    device.call("loop", 100)
    jump = cycle_model("cortex-m7").taken_branch
    # subs and bne are one pair if the flags are forwarded to the branch; the model says so
    per_turn = modelled_cycles(device.profile(), device.code, machine("cortex-m7")).sum() / 100
    assert 1 + jump <= per_turn <= 2 + jump + 0.1
