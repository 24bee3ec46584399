"""What is claimed of the memorised flow, from the stored steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cofit.core import Basis
from cofit.reproductions.bnn_dm.study import PUBLISHED_SIZES, Settings, engines
from cofit.reproductions.harness import (
    Claim,
    Measured,
    Table,
    at_least,
    at_most,
    between,
    measured,
)
from cofit.rtl import default_table

Found = Mapping[str, Any]
SPEED = "4x (abstract)"
ENERGY = "-73% (abstract)"
AREA = "+14% (abstract)"
ALL = "memorised, all multipliers"


def software_claims(settings: Settings, counts: Found, predictions: Sequence[Found]) -> list[Claim]:
    """Of counted multiplications, seconds, and predictions."""
    layer, t = counts["layer"], settings.voters
    first, last = layer["counts"]
    first_tree = next(name for name in counts if name.startswith("tree"))
    groups = settings.trees[0][0]

    def per_seed(value: str, name: str, base: str = "standard") -> list[float]:
        return [100 * (found[name][value] - found[base][value]) for found in predictions]

    saved = 100 * (1 - last / first)
    through = counts["standard"]["multiplications"] / counts[first_tree]["multiplications"]
    spreads = [found[first_tree]["spread"] / found["standard"]["spread"] for found in predictions]
    return [
        Claim(
            claim=f"multiplications of one layer that memorising saves, {t} voters, counted",
            published="about half (abstract)", measured=measured(saved, "%"),
            limit=f"1/2 - 1/T = {50 - 100 / t:.3g}%", basis=Basis.MEASURED,
            rule=between(min(48, 50 - 100 / t - 0.1), 50),
            note="counted operator by operator in what torch executes",
        ),
        Claim(
            claim="largest gap of the two flows' votes on the same random numbers, over the "
            "largest vote, double precision",
            published="the same function", measured=measured(layer["gap"], ""),
            limit="rounding", basis=Basis.MEASURED, rule=at_most(1e-12),
        ),
        Claim(
            claim=f"multiplications of the network, standard over {first_tree}, counted",
            published="not published; 5.46x at 784-200-200-10 by the formula",
            measured=measured(through, "x"),
            limit="(2 sum MN T) / sum over layers of n (2 + T_l) MN, n inputs to the layer",
            basis=Basis.MEASURED, rule=at_least(2.0),
            note="beyond the 2x of a layer only because voters share early samples",
        ),
        Claim(
            claim=f"time of one layer in C, standard over memorised, {t} voters",
            published="not published; our bar 1.3x",
            measured=measured(layer["seconds"][0] / layer["seconds"][1], "x"),
            limit="by multiplications 2T/(T + 2); more where operands are loaded less often",
            basis=Basis.MEASURED, rule=at_least(1.3),
            note="noise from a table for both; drawing it costs the same in either flow",
        ),
        Claim(
            claim=f"test accuracy of {first_tree} less that of independent voters",
            published="not published; our bar 1 point",
            measured=Measured(values=tuple(per_seed("accuracy", first_tree)), unit="points"),
            limit="none", basis=Basis.MEASURED, rule=between(-1, 1),
        ),
        Claim(
            claim=f"spread of the predictive mean over repeats, {first_tree} over independent "
            "voters",
            published="not published", measured=measured(spreads, "x"),
            limit="1 if voters were independent; sqrt(T / T_1) if the first layer decided alone",
            basis=Basis.MEASURED, rule=between(1, (t / groups) ** 0.5),
            note="what the saved multiplications cost: voters that share samples are correlated",
        ),
    ]  # fmt: skip


def hardware_claims(settings: Settings, chips: Mapping[str, Found]) -> list[Claim]:
    """Of the engines' netlists."""
    base, same, wide = chips["standard"], chips["memorised"], chips[ALL]
    voters = settings.chip_tree[0] * settings.chip_tree[1]
    bits = sum(chip[part]["mismatches"] for chip in chips.values() for part in ("layer", "network"))
    large = "-".join(map(str, PUBLISHED_SIZES))
    chip = f"64-{settings.chip_hidden}-10 on the digits, {voters} voters"

    def ratio(part: str, value: str, other: Found) -> float:
        return float(base[part][value] / other[part][value])

    def saved(part: str, other: Found) -> Measured:
        return measured(100 * (1 - 1 / ratio(part, "energy_j", other)), "%")

    def area(of: Found) -> float:
        return float(of["logic_um2"] + of["memory_um2"])

    multipliers = f"{settings.multipliers} multipliers each"
    lanes = f"{settings.multipliers // 2} lanes each"
    tree = "x".join(map(str, settings.chip_tree))
    share = (
        "the part that memorising does not touch, for one the generators of normal numbers: "
        f"{100 * base['generator']:.0f}% of the standard engine's cells"
    )
    drawn = f"every vote still draws its numbers; {share}"
    small = (
        "this engine's memory of weights is small beside its cells; the row with the memories of "
        f"{large} has them in proportion"
    )
    scaled = (
        f"{large}, 100 independent voters against a tree of 10x10x1; cycles by the formula that "
        "simulation confirmed, energy per cycle from simulation, memories of that size"
    )
    gone, fair = (
        100 * (1 - wide["scaled"]["energy_j"] / base["scaled"][of]) for of in ("energy_j", "once_j")
    )
    grown = 100 * (wide["scaled"]["area_um2"] / base["scaled"]["area_um2"] - 1)
    return [
        Claim(
            claim="sums of the mapped netlists that differ from the integer model",
            published="not published; our bar 0", measured=measured(bits, "sums"), limit="0",
            basis=Basis.SIMULATED, rule=at_most(0),
            note=f"of {sum(c[p]['compared'] for c in chips.values() for p in ('layer', 'network'))}"
            ", real weights and images",
        ),
        Claim(
            claim=f"cycles of one layer, standard over memorised, {multipliers}",
            published=SPEED, measured=measured(ratio("layer", "cycles", wide), "x"),
            limit=f"2T/(T + 2) = {2 * voters / (voters + 2):.3g}x", basis=Basis.SIMULATED,
            rule=at_least(4), note=f"first layer of {chip}",
            reason="no layer passes 2x: the published 4x must come from voters that share samples",
        ),
        Claim(
            claim=f"cycles of the network, standard over tree {tree}, {multipliers}",
            published=SPEED, measured=measured(ratio("network", "cycles", wide), "x"),
            limit="the ratio of multiplications", basis=Basis.SIMULATED, rule=at_least(4),
            note=chip, reason=f"the second layer fills {settings.multipliers} lanes only in part",
        ),
        Claim(
            claim=f"cycles of a larger network, standard over tree, {multipliers}",
            published=SPEED,
            measured=measured(base["scaled"]["cycles"] / wide["scaled"]["cycles"], "x"),
            limit="5.46x, the ratio of multiplications", basis=Basis.MODELLED, rule=at_least(4),
            note=scaled,
        ),
        Claim(
            claim=f"energy of one layer that memorising saves, {lanes}", published=ENERGY,
            measured=saved("layer", same), limit=share, basis=Basis.SIMULATED, rule=at_least(73),
            note=f"first layer of {chip}",
            reason="a 15-bit product costs what the saved multiplier did, and small memories of "
            "weights have little to save",
        ),
        Claim(
            claim=f"energy of the network that tree {tree} saves, {multipliers}",
            published=ENERGY, measured=saved("network", wide), limit=share, basis=Basis.SIMULATED,
            rule=at_least(73), note=chip, reason=drawn,
        ),
        Claim(
            claim=f"energy of a larger network that the tree saves, {multipliers}",
            published=ENERGY, measured=measured(gone, "%"), limit=share, basis=Basis.MODELLED,
            rule=at_least(73), note=scaled, reason=drawn,
        ),
        Claim(
            claim="the same against a standard engine that reads each weight once and keeps the "
            "sums of all voters in a memory", published=ENERGY, measured=measured(fair, "%"),
            limit=share, basis=Basis.MODELLED, rule=at_least(73),
            note="the strongest standard flow",
            reason="reading weights again for every voter is a choice, and most of what is saved",
        ),
        Claim(
            claim=f"area that memorising adds, {lanes}, memories included", published=AREA,
            measured=measured(100 * (area(same) / area(base) - 1), "%"),
            limit="one multiplier less, memorised products more", basis=Basis.SIMULATED,
            rule=at_most(14), note=f"engine for {chip}; cells from synthesis, memories by the bit",
            reason=small,
        ),
        Claim(
            claim=f"area that memorising adds, {multipliers}, memories included", published=AREA,
            measured=measured(100 * (area(wide) / area(base) - 1), "%"),
            limit="twice the lanes, with a generator of normal numbers each",
            basis=Basis.SIMULATED, rule=at_most(14), note=f"engine for {chip}",
            reason=f"its multipliers are spread over twice the lanes; {small}",
        ),
        Claim(
            claim=f"the same with the memories of {large}", published=AREA,
            measured=measured(grown, "%"), limit="as above", basis=Basis.MODELLED,
            rule=at_most(14), note="weights of all layers on the chip",
        ),
    ]  # fmt: skip


def flow_table(counts: Found, predictions: Sequence[Found]) -> Table:
    """Every flow, means over seeds."""

    def mean(name: str, value: str) -> float:
        return sum(float(found[name][value]) for found in predictions) / len(predictions)

    rows = []
    for name in predictions[0]:
        shrink = (mean("standard", "spread") / mean(name, "spread")) ** 2
        rows.append((
            name, f"{counts[name]['multiplications'] / 1e6:.3g}",
            f"{1e3 * counts[name]['seconds']:.3g}", f"{100 * mean(name, 'accuracy'):.2f}",
            f"{mean(name, 'nll'):.4f}", f"{mean(name, 'ece'):.4f}", f"{mean(name, 'entropy'):.4f}",
            f"{mean(name, 'spread'):.5f}", f"{100 * shrink:.0f}",
        ))  # fmt: skip
    return Table(
        title="Flows on one image: multiplications counted, seconds of torch with its generator. "
        "Effective: independent voters with the same spread, in percent of the voters",
        columns=(
            "flow", "multiplications (M)", "time (ms)", "accuracy (%)", "NLL (nats)", "ECE",
            "entropy (nats)", "spread of the mean", "effective (%)",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def engine_table(settings: Settings, chips: Mapping[str, Found]) -> Table:
    """Every engine."""
    rows = []
    for name, engine in engines(settings).items():
        chip = chips[name]
        rows.append((
            name, str(engine.lanes), str(engine.multipliers), f"{chip['cells']}",
            f"{chip['depth']}", f"{chip['logic_um2']:.0f}", f"{chip['memory_um2']:.0f}",
            f"{chip['layer']['cycles']}", f"{1e9 * chip['layer']['energy_j']:.3g}",
            f"{chip['network']['cycles']}", f"{1e9 * chip['network']['energy_j']:.3g}",
            f"{100 * chip['generator']:.0f}", f"{100 * chip['right']:.0f}",
        ))  # fmt: skip
    return Table(
        title="Engines at 45 nm, synthesised and simulated on real operands; memorised ones run "
        "the network as a tree",
        columns=(
            "engine", "lanes", "multipliers", "cells", "depth (gates)", "cells (um2)",
            "memories (um2)", "layer (cycles)", "layer (nJ)", "network (cycles)", "network (nJ)",
            "generators (% of cells' energy)", "images right (%)",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def source_table() -> Table:
    """Where the numbers of area and energy come from."""
    return Table(
        title="Sources of areas and energies",
        columns=("source", "kind and text"),
        rows=tuple(default_table().sources.items()),
    )
