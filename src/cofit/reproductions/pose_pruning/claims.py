"""What is claimed of the pose network, from the stored steps."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cofit.core import Basis
from cofit.reproductions.harness import Claim, Table, at_least, at_most, measured
from cofit.reproductions.pose_pruning.pruning import structures_of
from cofit.reproductions.pose_pruning.study import UNFRIENDLY, Settings

FIGURES = "synthetic stick figures, not people"


def claims(
    settings: Settings, plans: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> list[Claim]:
    """One row of plan and one of measurements per seed."""
    peer = str(runs[0]["peer"])
    network = [run["peer_s"] / run["pruned_s"] for run in runs]
    whole = [(run["peer_s"] + run["python_s"]) / (run["pruned_s"] + run["c_s"]) for run in runs]
    lost = [run["baseline_ap"] - run["pruned_ap"] for run in runs]
    work = [run["macs"] / run["kept_macs"] for run in runs]
    idle = sum(not structures_of(plan["rates"]) for plan in plans)
    unpruned = f"; the plan prunes nothing for {idle} of {len(plans)} seeds" if idle else ""
    both = sum(w >= 2 and x <= 1 for w, x in zip(whole, lost, strict=True))
    limbs, backbone = zip(*(branch_losses(settings, plan) for plan in plans), strict=True)
    short = (
        f"{settings.admm_epochs} and {settings.retrain_epochs} epochs on {settings.scenes:,} "
        "scenes do not bring back what is taken so that the pruned layers need "
        f"{settings.time_share:.0%} of their time; longer was not tried"
    )
    ratio = f"MAC ratio {statistics.fmean(work):.2f}x times 1.0 to 1.5 for the kernels' efficiency"
    return [
        Claim(
            claim="network latency: dense baseline in another runtime over pruned network in our C",
            published="up to 2.51x, representative lightweight estimator, COCO, phone (abstract)",
            measured=measured(network, "x"), limit=ratio, basis=Basis.MEASURED,
            rule=at_least(2.51), note=f"{FIGURES}; this CPU, baseline by {peer}{unpruned}",
        ),
        Claim(
            claim="OKS-AP that the pruned network loses against the dense baseline",
            published="none, it gains (abstract); our bar 0.5 point",
            measured=measured(lost, "points"), limit="AP of the baseline", basis=Basis.MEASURED,
            rule=at_most(0.5), note=f"{FIGURES}; equal epochs, unseen scenes of 1 to 3 figures",
            reason=short,
        ),
        Claim(
            claim="end to end, grouping included: dense baseline and grouping in Python over our C",
            published="not published; our bar 2x", measured=measured(whole, "x"), limit=ratio,
            basis=Basis.MEASURED, rule=at_least(2.0), note=f"{FIGURES}; split in the table",
        ),
        Claim(
            claim="share of seeds with 2x end to end at 1 point of AP or less",
            published="not published; our bar 2 of 3", measured=measured(both / len(runs), ""),
            limit="1", basis=Basis.MEASURED, rule=at_least(2 / 3), note=FIGURES, reason=short,
        ),
        Claim(
            claim=f"AP lost when layers of the limb branch are pruned alone at {_rate(settings):g}x"
            ", less that of backbone layers (means over layers)",
            published="limb branch sensitive, backbone robust (secondary summary)",
            measured=measured([a - b for a, b in zip(limbs, backbone, strict=True)], "points"),
            limit="AP of the baseline", basis=Basis.MEASURED, rule=at_least(0.0),
            note=f"{FIGURES}; without retraining. The plan follows what was measured either way",
            reason="on synthetic figures it is the depthwise backbone that has nothing to spare",
        ),
    ]  # fmt: skip


def grouping_claim(groupings: Mapping[str, Mapping[str, float]]) -> Claim:
    """Limb fields, which the rest of the run uses, against centres."""
    fields, centres = groupings["limb fields"], groupings["centres"]
    work = [each["macs"] / 1e6 for each in (fields, centres)]
    times = [1e6 * each["grouping_s"] for each in (fields, centres)]
    return Claim(
        claim="AP of grouping by limb fields less that of grouping by centres and offsets",
        published="not published; post-processing is chosen by AP and time (secondary summary)",
        measured=measured(fields["ap"] - centres["ap"], "points"), limit="100 points",
        basis=Basis.MEASURED, rule=at_least(0.0),
        note=f"{FIGURES}; validation part, one seed, equal short trainings; networks of "
        f"{work[0]:.2f} and {work[1]:.2f} MMACs, grouping in Python {times[0]:.0f} and "
        f"{times[1]:.0f} us",
        reason="figures keep apart and whole, so that their centres are easy to find; the pruned "
        "network was nevertheless trained with limb fields",
    )  # fmt: skip


def branch_losses(settings: Settings, plan: Mapping[str, Any]) -> tuple[float, float]:
    """Mean loss in points over layers of the limb heads, and of the backbone, at one rate."""
    at = settings.rates.index(_rate(settings))
    limbs = [row[at] for name, row in plan["losses"].items() if ".pafs." in name]
    backbone = [row[at] for name, row in plan["losses"].items() if name.startswith("backbone")]
    return statistics.fmean(limbs or [0.0]), statistics.fmean(backbone or [0.0])


def run_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Times and precision per seed."""
    return Table(
        title=f"End to end per seed ({FIGURES})",
        columns=(
            "seed", "baseline AP (%)", "pruned AP (%)", "MACs (x)", "baseline network (us)",
            "ours dense (us)", "pruned (us)", "grouping Python (us)", "grouping C (us)",
            "grouping C upsampled (us)", "AP upsampled (%)",
        ),
        rows=tuple(
            (
                str(seed), f"{run['baseline_ap']:.1f}", f"{run['pruned_ap']:.1f}",
                f"{run['macs'] / run['kept_macs']:.2f}", f"{1e6 * run['peer_s']:.0f}",
                f"{1e6 * run['ours_dense_s']:.0f}", f"{1e6 * run['pruned_s']:.0f}",
                f"{1e6 * run['python_s']:.0f}", f"{1e6 * run['c_s']:.1f}",
                f"{1e6 * run['upsampled_s']:.0f}", f"{run['upsampled_ap']:.1f}",
            )
            for seed, run in enumerate(runs)
        ),
    )  # fmt: skip


def plan_table(settings: Settings, plan: Mapping[str, Any]) -> Table:
    """Sensitivity, time and chosen rate of every layer."""
    rates = settings.rates
    return Table(
        title="Plan, first seed: points of AP lost alone and microseconds, by rate",
        columns=(
            "weight", *(f"loss at {r:g}x" for r in rates), "dense (us)",
            *(f"us at {r:g}x" for r in rates), "rate",
        ),
        rows=tuple(
            (
                name, *(f"{loss:.1f}" for loss in plan["losses"][name]),
                *(f"{1e6 * t:.1f}" for t in plan["times"][name]), f"{plan['rates'][name]:g}",
            )
            for name in plan["losses"]
        ),
    )  # fmt: skip


def choice_table(
    operators: Mapping[str, float],
    sweep: Mapping[int, Mapping[str, float]],
    depth: int,
    groupings: Mapping[str, Mapping[str, float]],
    real: Mapping[str, Any] | None,
) -> Table:
    """Operators, depth and post-processing: what was compared."""
    rows = [
        (f"operator {name}", f"{cost:.0f} ps per MAC", _verdict(name, cost, operators["3x3"]))
        for name, cost in operators.items()
    ]
    rows += [
        (
            f"{blocks} backbone blocks", f"AP {at['ap']:.1f} %, {1e6 * at['latency_s']:.0f} us",
            "chosen" if blocks == depth else "",
        )
        for blocks, at in sweep.items()
        if len(sweep) > 1
    ]  # fmt: skip
    best = max(groupings, key=lambda way: groupings[way]["ap"])
    rows += [
        (
            f"grouping by {way}", f"AP {at['ap']:.1f} %, {at['macs'] / 1e6:.2f} MMACs, "
            f"grouping in Python {1e6 * at['grouping_s']:.0f} us",
            "higher AP" if way == best else "",
        )
        for way, at in groupings.items()
    ]  # fmt: skip
    if real is not None:
        rows.append((
            "grouping of real keypoints", f"AP {real['ap']:.1f} % of {real['people']} people in "
            f"{real['pictures']} COCO pictures, from target maps at stride 8",
            "C equals Python" if real["same"] else "C differs from Python",
        ))  # fmt: skip
    return Table(
        title="Choices before pruning", columns=("what", "measured", "outcome"), rows=tuple(rows)
    )


def _rate(settings: Settings) -> float:
    return 4.0 if 4.0 in settings.rates else settings.rates[-1]


def _verdict(name: str, cost: float, plain: float) -> str:
    if cost <= UNFRIENDLY * plain:
        return "friendly"
    return "replaced" if "dilated" in name else "unfriendly, but the backbone is made of it"
