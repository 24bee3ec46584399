"""A hand-made explanation."""

from typing import Any

from cofit.core import Basis
from cofit.fit import Explanation
from cofit.fit.explanation import Advice, Layer, LevelRow, Limits

LIMITS = Limits(
    basis=Basis.MEASURED,
    machine="Example CPU 3.0 GHz",
    macs_per_s=50e9,
    macs_spread=0.02,
    instruction="fused multiply-add",
    levels=(
        LevelRow(name="L1", capacity_bytes=32_768, bytes_per_s=200e9, spread=0.01),
        LevelRow(name="DRAM", capacity_bytes=None, bytes_per_s=10e9, spread=0.3),
    ),
    step_s=3e-8,
    clock=0.99,
)


def layer(op: str, **changed: Any) -> Layer:
    values: dict[str, Any] = {
        "op": op, "kind": "conv2d", "kernel": "f32-dense 16 outputs x 6 pixels",
        "weight_shape": (32, 16, 3, 3), "latency_s": 40e-6, "share": 0.4,
        "macs_dense": 1_179_648, "macs_kept": 1_179_648, "macs_executed": 1_179_648,
        "weight_bytes": 18_432, "input_bytes": 16_384, "output_bytes": 32_768,
        "traffic_bytes": {"L1": 3_000_000}, "intensity": 17.5,
        "compute_s": 23.6e-6, "memory_s": {"L1": 15e-6}, "limit_s": 23.6e-6,
        "overhead_s": 16.4e-6, "reached": 0.59, "binds": "compute",
        "why": ("compute binds: 59% of its time",),
    }  # fmt: skip
    return Layer(**{**values, **changed})


def advice(**changed: Any) -> Advice:
    values: dict[str, Any] = {
        "structure": "block8x1@4", "precision": "fp32", "bits": 32, "rate": 4.0,
        "latency_s": 14e-6, "gain_s": 26e-6, "exact": True, "basis": Basis.MEASURED,
        "text": "its zeros satisfy block8x1@4: 40 µs to 14 µs",
    }  # fmt: skip
    return Advice(**{**values, **changed})


def explanation(**changed: Any) -> Explanation:
    """Two layers alike, one with ignored zeros, and one that only moves bytes."""
    move = layer(
        "pool", kind="maxpool2d", kernel="f32-pool max", weight_shape=(), latency_s=5e-6,
        share=0.05, macs_dense=0, macs_kept=0, macs_executed=0, weight_bytes=0,
        intensity=0.0, compute_s=0.0, memory_s={"L1": 1e-6}, limit_s=1e-6, overhead_s=4e-6,
        reached=0.2, binds="overhead", why=("overhead binds: 20% of its time",),
    )  # fmt: skip
    ignored = layer(
        "conv3", zeros="block8x1@4", density=0.25, latency_s=30e-6, share=0.3,
        overhead_s=6e-6, advice=(advice(),), considered=9,
    )  # fmt: skip
    values: dict[str, Any] = {
        "program": "net", "target": "host", "precision": "fp32", "basis": Basis.MEASURED,
        "latency_s": 100e-6, "spread": 0.012, "limit_s": 53.2e-6, "macs_executed": 3_538_944,
        "limits": LIMITS, "layers": (layer("conv1"), layer("conv2"), ignored, move),
        "notes": ("the CPU gave 50% of its measured peak",),
    }  # fmt: skip
    return Explanation(**{**values, **changed})
