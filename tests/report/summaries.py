"""Hand-made summaries: a realistic one, and what can go wrong with it."""

from __future__ import annotations

from typing import Any

from cofit.core import Basis
from cofit.fit import Summary
from cofit.fit.summary import (
    DataRow,
    LimitRow,
    Memory,
    MemoryBlock,
    Peer,
    PlanRow,
    Search,
    Side,
    Tried,
    Verification,
)

EVIL = '<script>alert("x")</script>&\x07'
UNICODE = "слой·卷积·שכבה·🧠"


def side(**changed: Any) -> Side:
    values: dict[str, Any] = {
        "accuracy": 0.871,
        "correct": 871,
        "precision": "fp32",
        "latency_s": 0.0214,
        "flash_bytes": 312_400,
        "ram_bytes": 131_072,
        "energy_j": 0.00182,
        "instructions": None,
        "macs": 12_501_632,
        "parameters": 77_360,
        "basis": Basis.MEASURED,
        "spread": 0.021,
    }
    return Side(**{**values, **changed})


def layer(op: str, index: int = 0, **changed: Any) -> PlanRow:
    dense_s = 1e-3 * (1 + index % 5)
    pruned = index % 4 != 0
    values: dict[str, Any] = {
        "op": op,
        "kind": "conv2d",
        "weight_shape": (32, 16, 3, 3),
        "structure": f"block8x1@{2 + index % 4}" if pruned else None,
        "rate": 2.0 + index % 4 if pruned else 1.0,
        "bits": 32,
        "macs": 1_179_648,
        "kept_macs": 294_912 if pruned else 1_179_648,
        "loss": 0.0125 if pruned else 0.0,
        "considered": 29,
        "note": "" if pruned else "the budget is met with less loss elsewhere",
        "basis": Basis.MEASURED,
        "latency_dense_s": dense_s,
        "latency_predicted_s": 0.40 * dense_s if pruned else dense_s,
        "latency_measured_s": 0.44 * dense_s if pruned else 1.02 * dense_s,
        "flash_dense_bytes": 18_432,
        "flash_predicted_bytes": 5_200 if pruned else 18_432,
        "flash_measured_bytes": 5_120 if pruned else 18_432,
    }
    return PlanRow(**{**values, **changed})


def memory(names: list[str]) -> Memory:
    """A chain: every step reads what the one before wrote; even steps have scratch."""
    blocks = [
        MemoryBlock(
            name=name,
            offset_bytes=0 if i % 2 == 0 else 16_384,
            nbytes=16_384 >> (i % 3),
            first=i,
            last=min(i + 1, len(names) - 1),
        )
        for i, name in enumerate(names)
    ]
    scratch = [
        MemoryBlock(name=f"(scratch {i})", offset_bytes=32_768, nbytes=2_048, first=i, last=i)
        for i in range(0, len(names), 2)
    ]
    return Memory(arena_bytes=34_816, steps=tuple(names), blocks=(*blocks, *scratch))


def summary(**changed: Any) -> Summary:
    """A fit of a small residual network to this CPU, budget met."""
    names = [f"layer{1 + i // 4}.{i // 2 % 2}.conv{1 + i % 2}" for i in range(12)]
    values: dict[str, Any] = {
        "name": "mlperf_resnet",
        "target": "host",
        "device": {"target": "host", "cpu": "Example CPU 3.0 GHz", "threads": "1"},
        "budget": "latency<=0.5x, flash<=200.00KB, accuracy_drop<=1.00%",
        "met": True,
        "verdict": "budget met: latency 9.87 ms (within 10.7 ms)",
        "limits": (
            LimitRow(
                metric="latency", dimension="time", limit=0.0107, dense=0.0214, fitted=0.00987,
                met=True,
            ),
            LimitRow(
                metric="flash", dimension="bytes", limit=200_000, dense=312_400, fitted=121_900,
                met=True,
            ),
            LimitRow(
                metric="accuracy_drop", dimension="fraction", limit=0.01, dense=0.0005,
                fitted=0.0075, met=True,
            ),
        ),
        "accuracy_given": 0.8715,
        "dense": side(),
        "fitted": side(
            accuracy=0.864, correct=864, latency_s=0.00987, flash_bytes=121_900, ram_bytes=98_304,
            energy_j=0.00084, macs=4_212_736, parameters=24_019, spread=0.034,
        ),
        "plan": tuple(layer(name, index) for index, name in enumerate(names)),
        "tried": (
            Tried(label="round0", latency_s=0.0112, flash_bytes=130_000, ram_bytes=98_304,
                  accuracy=0.8702),
            Tried(label="round1", latency_s=0.0104, flash_bytes=124_000, ram_bytes=98_304,
                  accuracy=0.8589),
            Tried(label="round2", latency_s=0.0099, flash_bytes=121_900, ram_bytes=98_304,
                  accuracy=0.8668),
        ),
        "memory": memory(["stem", *names, "pool", "linear"]),
        "verification": Verification(
            bit_exact=False, max_abs_error=2.4e-6, samples=1000, reference="torch, float64"
        ),
        "search": Search(
            rounds=3, loss=0.1125, bound=0.1101, gap=0.0213, validation_dense=0.8741,
            validation_fitted=0.8668,
        ),
        "peers": (
            Peer(name="onnxruntime 1.27", latency_s=0.0231, dense_s=0.021, fitted_s=0.01,
                 note="fp32, 1 thread"),
            Peer(name="openvino 2026.0", latency_s=None, dense_s=0.021, fitted_s=0.01,
                 note="not installed"),
        ),
        "data": DataRow(name="cifar-like", train=45_000, validation=5_000, test=1_000),
        "seed": 7,
        "seconds": 3_725.4,
        "versions": {"python": "3.12.1", "cofit": "0.1.0", "torch": "2.13.0"},
        "config": 'model = "mlperf_resnet"\nbudget = "latency<=0.5x, accuracy_drop<=1.00%"\n',
    }  # fmt: skip
    return Summary(**{**values, **changed})


def not_met() -> Summary:
    """Latency over its limit, and an accuracy that rose."""
    rows = summary().limits
    return summary(
        met=False,
        verdict="budget not met: latency 12.5 ms (over 10.7 ms)",
        limits=(
            rows[0].model_copy(update={"fitted": 0.0125, "met": False}),
            rows[1],
            rows[2].model_copy(update={"fitted": -0.002}),
        ),
    )


def seen() -> Summary:
    """A network that came with weights trained on the validation images too."""
    known = {"validation_dense": 0.9991, "validation_seen": True}
    return summary(accuracy_given=0.8715, search=summary().search.model_copy(update=known))


def emulated() -> Summary:
    """An int8 program on a Cortex-M: counted instructions, no energy, no peers."""
    changes = {
        "basis": Basis.EMULATED, "precision": "int8", "spread": None, "energy_j": None,
    }  # fmt: skip
    return summary(
        target="cortex-m4:stm32f446",
        dense=side(**changes, instructions=1_371_967, latency_s=0.00966),
        fitted=side(**changes, instructions=650_571, latency_s=0.00477),
        peers=(),
        verification=Verification(
            bit_exact=True, max_abs_error=0.0, samples=16, reference="integer reference"
        ),
    )


def large() -> Summary:
    """Sixty layers with long names."""
    names = [f"backbone.stage{i // 10}.block{i}.pointwise_projection" for i in range(60)]
    rows = tuple(layer(name, index) for index, name in enumerate(names))
    return summary(plan=rows, memory=memory(names))


def hostile() -> Summary:
    """Every name that a user gives is markup, nothing takes time, and nothing was tried."""
    zero = {"latency_dense_s": 0.0, "latency_predicted_s": 0.0, "latency_measured_s": 0.0}
    names = [EVIL, UNICODE, "https://example.org/a.js", "x" * 300]
    return summary(
        name=EVIL,
        target=UNICODE,
        device={EVIL: EVIL, "src=": 'src="x"'},
        verdict=EVIL,
        dense=side(latency_s=0.0, energy_j=None, basis=Basis.MODELLED),
        fitted=side(latency_s=0.0, energy_j=None, macs=0, parameters=0, basis=Basis.MODELLED),
        limits=(),
        plan=tuple(
            layer(name, i, note=name, structure=name, considered=0, **zero)
            for i, name in enumerate(names)
        ),
        tried=(Tried(label=EVIL, latency_s=0.0, flash_bytes=0, ram_bytes=0, accuracy=0.0),),
        memory=memory(names),
        peers=(Peer(name=EVIL, latency_s=0.0, dense_s=0.0, fitted_s=0.0, note=EVIL),),
        data=DataRow(name=EVIL, train=0, validation=0, test=0),
        versions={EVIL: EVIL},
        config=f"model = '{EVIL}'",
    )


def bare() -> Summary:
    """Lists that may be empty are empty."""
    return summary(
        plan=(), tried=(), peers=(), device={}, versions={}, limits=(),
        memory=Memory(arena_bytes=0, steps=(), blocks=()),
    )  # fmt: skip


ALL = {
    "met": summary,
    "not met": not_met,
    "seen": seen,
    "emulated": emulated,
    "large": large,
    "hostile": hostile,
    "bare": bare,
}
