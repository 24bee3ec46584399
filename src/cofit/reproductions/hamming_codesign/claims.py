"""What is claimed of the streams, from the stored steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cofit.core import Basis
from cofit.reproductions.hamming_codesign.streams import Count, total
from cofit.reproductions.hamming_codesign.study import MEASURES, Settings, counts
from cofit.reproductions.harness import (
    Claim,
    Table,
    at_least,
    at_most,
    between,
    measured,
)

EXPECTED = {
    "twos_complement": {96: 1.12, 32: 1.23, 16: 1.36, 8: 1.59, 4: 2.06, 2: 3.13, 1: 7.03},
    "sign_magnitude": {96: 1.10, 32: 1.18, 16: 1.27, 8: 1.44, 4: 1.76, 2: 2.53, 1: 5.42},
}
"""Reductions of K=128, C=96 Laplace weights by segment size."""

PUBLISHED = "2.85x lower data-path energy on average, MobileNetV2, post-layout (abstract)"
SHARE = (
    "flips of weights alone: with a share s of the data path's energy in them, the whole falls "
    "at most 1 / (1 - s)"
)


def laplace_claims(settings: Settings, found: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    """Of the table for weights without structure."""
    reached = min(
        ours / EXPECTED[encoding][height]
        for encoding, table in found.items()
        for ours, height in zip(table["reduction"], settings.laplace_heights, strict=True)
    )
    over = max(
        ours / limit
        for table in found.values()
        for ours, limit in zip(table["reduction"], table["ceiling"], strict=True)
    )
    alone = found["twos_complement"]["activity"] / found["sign_magnitude"]["activity"]
    setting = "i.i.d. Laplace weights, K=128, C=96, scale 14; no structure to exploit"
    return [
        Claim(
            claim="orders per segment against the expected reductions, worst of all heights",
            published="not published; specification's own table (1.12x to 7.03x)",
            measured=measured(reached, "x"), limit="minimum spanning tree of each segment",
            basis=Basis.SIMULATED, rule=at_least(0.97), note=setting,
        ),
        Claim(
            claim="share of the spanning-tree ceiling that the orders reach, best of all heights",
            published="not published", measured=measured(over, "x"),
            limit="1: a path is a tree", basis=Basis.SIMULATED, rule=at_most(1.0), note=setting,
        ),
        Claim(
            claim="flips of two's complement over those of sign-magnitude, natural order",
            published="not published; specification's own figure 1.32x",
            measured=measured(alone, "x"), limit="8 bits over the 7 that a magnitude has at most",
            basis=Basis.SIMULATED, rule=between(1.28, 1.36), note=setting,
        ),
    ]  # fmt: skip


def network_claims(
    settings: Settings,
    plain: Sequence[dict[str, Any]],
    aware: Sequence[dict[str, Any]],
    differing: Sequence[int],
) -> list[Claim]:
    """Of the trained networks, one of each kind per seed."""
    encoding, height = settings.encoding, settings.height
    low = min(settings.heights)

    def ratios(at: int, of: Callable[[Count], float], pick: Callable[[list[float]], float]) -> Any:
        values = []
        for a, b in zip(plain, aware, strict=True):
            before = counts(a, encoding, at, "natural")
            after = counts(b, encoding, at, "clustered")
            values.append(pick([of(x) / max(of(y), 1) for x, y in zip(before, after, strict=True)]))
        return measured(values, "x")

    def network(x: Sequence[dict[str, Any]], at: int, measure: str) -> list[Count]:
        return [total(counts(each, encoding, at, measure)) for each in x]

    def trees(at: int) -> str:
        pairs = zip(network(plain, at, "natural"), network(aware, at, "clustered"), strict=True)
        most = _mean([a.total / max(b.bound + b.border_flips, 1) for a, b in pairs])
        return (
            f"no order passes {most:.2f}x in flips (spanning trees of the trained weights), and "
            "energy falls less than flips: a multiplier's first toggled bit costs most"
        )

    beyond = [
        a.total / b.total
        for a, b in zip(
            network(plain, height, "clustered"), network(aware, height, "clustered"), strict=True
        )
    ]
    lost = [100 * (a["test"] - b["test"]) for a, b in zip(plain, aware, strict=True)]
    setting = f"int8 inverted residuals on {settings.data}, two's complement before and after"
    rows = [
        Claim(
            claim=f"energy of multiply-accumulates, mean over layers, {at} operands per segment: "
            "natural order over training, clustering and orders per segment",
            published=PUBLISHED, measured=ratios(at, lambda c: c.energy, _mean), limit=SHARE,
            basis=Basis.MODELLED, rule=at_least(2.85),
            note=f"{setting}; energy by a table over flips per operand, borders of segments "
            "included. The published array's segment size is not known",
            reason=trees(at),
        )
        for at in dict.fromkeys((height, 4, low))
        if at in settings.heights
    ]  # fmt: skip
    return [
        *rows,
        Claim(
            claim=f"the same in flips with the accumulators' address lines charged, {height} "
            "operands per segment",
            published=PUBLISHED, measured=ratios(height, lambda c: c.with_addresses, _mean),
            limit=SHARE, basis=Basis.SIMULATED, rule=at_least(2.85),
            note=f"{setting}; natural order pays for its counter, own orders for their tables' "
            "outputs; storage of the tables is in the table below",
            reason=f"{trees(height)}; addresses out of order toggle more than a counter's",
        ),
        Claim(
            claim=f"best layer, {low} operand per segment", measured=ratios(
                low, lambda c: c.energy, max
            ),
            published="up to 8.51x, MobileNetV2 (abstract)", limit="spanning tree of each segment",
            basis=Basis.MODELLED, rule=at_least(8.51), note=setting,
            reason=f"in flips the best layer gains {ratios(low, lambda c: c.total, max).text}; "
            "of a multiplier's energy the first toggled bit costs most, and few remain",
        ),
        Claim(
            claim="flips after clustering and orders per segment: plain fine-tuning over "
            "Hamming-aware training",
            published="not published; our bar 1.3x", measured=measured(beyond, "x"),
            limit="distinct rows - 1 flips per segment", basis=Basis.SIMULATED, rule=at_least(1.3),
            note=f"{setting}; {height} operands per segment, the same epochs for both",
        ),
        Claim(
            claim="test accuracy that Hamming-aware training loses against plain fine-tuning",
            published="not published; our bar 1 point", measured=measured(lost, "points"),
            limit="none", basis=Basis.MEASURED, rule=at_most(1.0),
            note="strength chosen on the validation part: the largest within "
            f"{100 * settings.allowed_loss:g} points",
        ),
        Claim(
            claim="inputs whose output bits change when channels are reordered or clustered",
            published="0: the function is unchanged", measured=measured(differing, "inputs"),
            limit="0", basis=Basis.MEASURED, rule=at_most(0.0),
            note=f"{settings.identical} test images, compiled int8 programs",
        ),
    ]  # fmt: skip


def laplace_table(settings: Settings, found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Reductions by height, ceilings in brackets."""
    return Table(
        title="Laplace weights: natural flips over those of segment orders (ceiling)",
        columns=("encoding", *(str(height) for height in settings.laplace_heights)),
        rows=tuple(
            (
                encoding,
                *(
                    f"{ours:.2f} ({limit:.2f})"
                    for ours, limit in zip(table["reduction"], table["ceiling"], strict=True)
                ),
            )
            for encoding, table in found.items()
        ),
    )


def network_table(
    settings: Settings, plain: Sequence[dict[str, Any]], aware: Sequence[dict[str, Any]]
) -> Table:
    """Reduction of a network's flips by every measure, with what the orders cost."""
    rows = []
    for encoding in settings.encodings:
        for height in settings.heights:
            base = [total(counts(each, encoding, height, "natural")) for each in plain]
            arms = [(name, plain, name) for name in MEASURES[1:]]
            for name, steps, measure in (*arms, ("trained, clustered", aware, "clustered")):
                found = [total(counts(each, encoding, height, measure)) for each in steps]
                pairs = list(zip(base, found, strict=True))
                rows.append((
                    encoding, str(height), name,
                    f"{_mean([a.total / b.total for a, b in pairs]):.2f}",
                    f"{_mean([a.total / max(b.bound + b.border_flips, 1) for a, b in pairs]):.2f}",
                    f"{_mean([a.with_addresses / b.with_addresses for a, b in pairs]):.2f}",
                    f"{_mean([a.energy / b.energy for a, b in pairs]):.2f}",
                    f"{found[0].table_bits}",
                ))  # fmt: skip
    return Table(
        title="Whole network, mean over seeds: plain fine-tuned in natural order over each measure",
        columns=(
            "encoding", "segment", "measure", "flips (x)", "ceiling (x)",
            "flips with addresses (x)", "energy (x)", "order tables (bits)",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def layer_table(
    settings: Settings, plain: dict[str, Any], aware: dict[str, Any], names: Sequence[str]
) -> Table:
    """Reduction of every layer's flips at the default height, first seed."""
    where = (settings.encoding, settings.height)
    columns = [counts(plain, *where, measure) for measure in MEASURES]
    columns.append(counts(aware, *where, "clustered"))
    rows = []
    for name, base, *others in zip(names, *columns, strict=True):
        shares = (f"{base.total / max(other.total, 1):.2f}" for other in others)
        rows.append((name, f"{base.flips / max(base.streamed_bits, 1):.3f}", *shares))
    return Table(
        title=f"Layers, {settings.height} operands per segment, two's complement, first seed (x)",
        columns=("weight", "flips per bit", *MEASURES[1:], "trained, clustered"),
        rows=tuple(rows),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
