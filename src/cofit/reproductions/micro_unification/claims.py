"""What is claimed of unified blocks, and the rules that decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cofit.core import Basis
from cofit.reproductions.harness import Claim, above_spread, at_least, at_most, measured
from cofit.reproductions.micro_unification.storage import Operations

ONE_SHOT, PROGRESSIVE = "one-shot", "progressive"


def claims_of(
    longer: str,
    dense: list[dict[str, Any]],
    found: Mapping[str, list[dict[str, Any]]],
    deployed: Mapping[str, Any] | None,
) -> list[Claim]:
    """All rows.

    Args:
        longer: block of unification alone.
        dense: results of the dense network by seed.
        found: results by contender and seed.
        deployed: of the programs, if they were made.
    """
    claims = [*_trained_claims(dense, found), *_counted_claims(longer, dense, found)]
    return claims if deployed is None else [*claims, *_deployed_claims(deployed)]


def points_of(rows: list[dict[str, Any]]) -> list[float]:
    """Test accuracy in percent, by seed."""
    return [100 * row["accuracy"] for row in rows]


def _differences(a: list[float], b: list[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _trained_claims(
    dense: list[dict[str, Any]], found: Mapping[str, list[dict[str, Any]]]
) -> list[Claim]:
    points = {name: points_of(rows) for name, rows in found.items()}
    both, whole = found["both"], points_of(dense)
    alone = [max(a, b) for a, b in zip(points["prune"], points["unify"], strict=True)]
    sizes = [row["coded"] for rows in found.values() for row in rows]
    spread = 100 * (max(sizes) / min(sizes) - 1)
    ratio = [d["bytes"] / row["coded"] for d, row in zip(dense, both, strict=True)]
    equal = f"equal bytes after zlib: within {spread:.1f} % of each other"
    return [
        Claim(
            claim="accuracy of unified and pruned blocks over the better of each alone",
            published="unify and prune together reach the state of the art (abstract; no table "
            "could be read)",
            measured=measured(_differences(points["both"], alone), "points"),
            limit="accuracy of the dense network",
            basis=Basis.MEASURED, rule=above_spread(), note=equal,
            reason="longer blocks, unified and none of them pruned, take as few bytes and lose as "
            "little",
        ),
        Claim(
            claim="accuracy of unified and pruned blocks over pruned int8 blocks",
            published="pruning is the special case v = 0 of unification (abstract)",
            measured=measured(_differences(points["both"], points["prune"]), "points"),
            limit="accuracy of the dense network",
            basis=Basis.MEASURED, rule=above_spread(), note=equal,
        ),
        Claim(
            claim="accuracy lost to the dense network",
            published="state of the art compression at low loss (abstract); the bar of 1 point is "
            "ours",
            measured=measured(_differences(whole, points["both"]), "points"),
            limit="0 where the dense network is redundant",
            basis=Basis.MEASURED, rule=at_most(1.0),
        ),
        Claim(
            claim="bytes of fp32 weights over those of unified and pruned blocks, zlib included",
            published="not published; the bar is the limit of unification alone at 16 a block",
            measured=measured(ratio, "x"),
            limit="32 n / (n + 16) / (1 - q_p): 10.7x over the kept part at n = 8, 16x at n = 16",
            basis=Basis.MEASURED, rule=at_least(14.0),
            note="the first layer, batch norm and biases stay fp32; weights are counted",
        ),
        Claim(
            claim="accuracy of ADMM over one-shot projection with the same epochs",
            published="ADMM is the method (abstract)",
            measured=measured(_differences(points["both"], points[ONE_SHOT]), "points"),
            limit="accuracy of the dense network",
            basis=Basis.MEASURED, rule=at_least(0.0),
            reason="weights of a trained network move little in so few epochs: "
            f"{100 * same_support(both, found[ONE_SHOT]):.1f} % of the weights that ADMM prunes "
            "or keeps are those that projection at once does, and it then has fewer epochs "
            "within the structure",
        ),
        Claim(
            claim="accuracy of progressive hard unification over one-shot projection, same epochs",
            published="not published; a hard regime of ours beside ADMM",
            measured=measured(_differences(points[PROGRESSIVE], points[ONE_SHOT]), "points"),
            limit="accuracy of the dense network",
            basis=Basis.MEASURED, rule=at_least(0.0),
            note="a quarter, half, three quarters, then all blocks unified, values and free "
            "weights trained in between",
            reason="likely, as with ADMM, fewer epochs are left once all blocks are unified",
        ),
        Claim(
            claim="distance of weights to their structure, start of ADMM over its end",
            published="not published; the bar is ours",
            measured=measured([row["gaps"][0] / max(row["gaps"][-1], 1e-9) for row in both], "x"),
            limit="none: the distance may reach 0",
            basis=Basis.MEASURED, rule=at_least(10.0),
        ),
    ]  # fmt: skip


def same_support(ones: list[dict[str, Any]], others: list[dict[str, Any]]) -> float:
    """Share of the elements of pruned weights that are zero in both networks or in neither."""
    same = total = 0
    for one, other in zip(ones, others, strict=True):
        for name, weight in one.items():
            if isinstance(weight, torch.Tensor) and weight.dim() > 1 and bool((weight == 0).any()):
                same += int(((weight == 0) == (other[name] == 0)).sum())
                total += weight.numel()
    return same / total if total else 1.0


def _counted_claims(
    longer: str, dense: list[dict[str, Any]], found: Mapping[str, list[dict[str, Any]]]
) -> list[Claim]:
    n = int(longer.partition("x")[2])
    unify = found["unify"]
    fewer_multiplies = [
        d["multiplies"] / row["multiplies"] for d, row in zip(dense, unify, strict=True)
    ]
    energy = [_energy(d) / _energy(row) for d, row in zip(dense, unify, strict=True)]
    return [
        Claim(
            claim="multiplies of the dense network over those of the unified one",
            published=f"n - 1 additions and 1 multiply instead of n (method), n = {n}",
            measured=measured(fewer_multiplies, "x"),
            limit=f"{n}x, if every layer were unified",
            basis=Basis.MEASURED, rule=at_least(0.5 * n),
            note="counted from the trained weights in the traced layers",
        ),
        Claim(
            claim="energy of fp32 arithmetic, dense over unified",
            published="not published; operation energies of Horowitz, ISSCC 2014",
            measured=measured(energy, "x"),
            limit=f"{4.6 * n / (0.9 * n + 3.7):.2f}x at n = {n}, 5.1x at any",
            basis=Basis.MODELLED, rule=at_least(2.0),
            note="arithmetic alone, no memory; multiplies cost 3.7 pJ, additions 0.9 pJ",
        ),
    ]  # fmt: skip


def _energy(row: Mapping[str, Any]) -> float:
    return Operations(row["multiplies"], row["additions"]).energy_j


def _deployed_claims(found: Mapping[str, Any]) -> list[Claim]:
    return [
        Claim(
            claim="flash of the int8 program on a Cortex-M4, dense over unified and pruned",
            published="not published",
            measured=measured(found["flash dense"] / found["flash unified"], "x"),
            limit="8 n / (n + 8) / (1 - q_p) for the weights alone; code and biases stay",
            basis=Basis.EMULATED, rule=at_least(2.0),
            note=f"{found['flash dense']} to {found['flash unified']} bytes; instructions "
            f"{found['instructions dense']} to {found['instructions unified']}",
        ),
        Claim(
            claim="latency on this CPU of the unified int8 program over the dense one",
            published="not published: on a CPU whose multiply costs an addition, unification "
            "saves storage, not time",
            measured=measured(found["seconds unified"] / found["seconds dense"], "x"),
            limit="0, were pruned blocks skipped",
            basis=Basis.MEASURED, rule=at_most(1.2),
            note="one thread, A/B/A/B; both run the dense vector kernel",
            reason="the same kernel runs on as many bytes: other work on the machine, most likely",
        ),
    ]  # fmt: skip
