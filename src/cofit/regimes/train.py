"""A plain training loop around any regime; a user's own loop does as well (see `contract`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ModelError, derive_seed
from cofit.regimes.batches import Batches
from cofit.regimes.contract import Context, Regime
from cofit.regimes.ledger import Ledger
from cofit.regimes.recipe import Recipe
from cofit.regimes.resume import Checkpoint, Run
from cofit.regimes.trace_cost import kept_macs, training_layers

Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Progress = Callable[[str, int, int], None]


def fit(
    model: nn.Module,
    data: Batches,
    recipe: Recipe,
    regime: Regime | None = None,
    *,
    criterion: Criterion = F.cross_entropy,
    checkpoint: Checkpoint | None = None,
    progress: Progress = lambda stage, done, total: None,
    stage: str = "train",
) -> tuple[nn.Module, Ledger]:
    """Train in place and give the finalised model, in eval mode, and what it cost.

    With a checkpoint file that exists, training goes on from it, bit for bit as if it had never
    stopped. The global generator (dropout) is seeded per step and left as it was found.

    Args:
        model: its weights are changed.
        data: batches; their seed is the seed of the training.
        recipe: epochs and optimiser.
        regime: what the training drives at; several of them as a `RegimeStack`.
        criterion: mean task loss of outputs and targets.
        checkpoint: where and how often to save.
        progress: called after every step with (stage, steps done, all steps).
        stage: first argument of `progress`.

    Raises:
        ModelError: the loss is not finite.
    """
    regime = Regime() if regime is None else regime
    if data.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    sample, _ = next(data.epoch(0))
    layers = training_layers(model, sample[:1])
    ledger = Ledger(sum(layers.values()))
    handle = regime.attach(model, sample)
    try:
        optimiser = recipe.build(model, regime.param_groups())
        settings = asdict(recipe) | {"batch": data.size, "seed": data.seed, "steps": len(data)}
        run = Run(model, optimiser, regime, ledger, settings)
        first = 0 if checkpoint is None else checkpoint.resume(run)
        total = recipe.epochs * len(data)
        with torch.random.fork_rng(devices=[]):
            for epoch in range(first // len(data), recipe.epochs):
                start = max(first - epoch * len(data), 0)
                if start == 0:
                    regime.on_epoch(epoch)
                    ledger.open_epoch(kept_macs(model, layers))
                batches = data.epoch(epoch, start)
                for step, (inputs, targets) in enumerate(batches, epoch * len(data) + start):
                    torch.manual_seed(derive_seed(data.seed, "model", step))
                    recipe.set_rate(optimiser, step, total)
                    regime.before_step(step, total)
                    outputs = model(inputs)
                    context = Context(step, inputs, targets, outputs)
                    parts = {"task": criterion(outputs, targets), **regime.loss(context)}
                    loss = torch.stack(list(parts.values())).sum()
                    if not torch.isfinite(loss):
                        raise ModelError(f"the loss is {loss.item()} at step {step}; train slower")
                    optimiser.zero_grad()
                    loss.backward()
                    regime.after_backward()
                    optimiser.step()
                    regime.after_step()
                    ledger.add(len(inputs), parts)
                    if (step + 1) % len(data) == 0:
                        ledger.close_epoch(epoch)
                    if checkpoint is not None:
                        checkpoint.save(run, step + 1)
                    progress(stage, step + 1, total)
        return regime.finalize(model).eval(), ledger
    finally:
        handle.remove()
