"""One training loop for all graph systems: full or sampled, resumable, selected on validation.

It takes the hooks of `cofit.regimes.Regime`, so that a regime can prune, reduce gradients over
ranks (`after_backward`) or keep the buffers of a stale exchange in its state. It is a loop of its
own because `regimes.fit` feeds a network one tensor per batch and takes the last weights, where a
graph network needs adjacencies as well and its literature selects the epoch by validation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError, ModelError, derive_seed
from cofit.graphs.loaders import Loader, Step
from cofit.graphs.pyg import adapted
from cofit.graphs.scores import Scores
from cofit.regimes import Checkpoint, Context, Regime
from cofit.regimes.resume import Run

Progress = Callable[[str, int, int], None]
Evaluate = Callable[[nn.Module], Scores]


@dataclass(frozen=True)
class GraphRecipe:
    """How long and how fast, with Adam.

    Args:
        epochs: passes over the training nodes.
        learning_rate: constant.
        weight_decay: L2 penalty of matrices; biases and norms have none.
        evaluate_every: epochs between two evaluations; the last epoch always has one.
        patience: evaluations without a better validation score before it stops early; None never.
    """

    epochs: int
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    evaluate_every: int = 1
    patience: int | None = None

    def __post_init__(self) -> None:
        positive = self.epochs > 0 and self.learning_rate > 0 and self.evaluate_every > 0
        if (
            not positive
            or self.weight_decay < 0
            or (self.patience is not None and self.patience < 1)
        ):
            raise ConfigError(
                f"{self}: epochs, learning rate, evaluate_every and patience must be positive, "
                "weight decay not below 0"
            )

    def build(self, model: nn.Module, extra: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Adam over the model's parameters and extra groups."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
            *extra,
        ]
        return torch.optim.Adam([g for g in groups if g["params"]], self.learning_rate)


@dataclass
class History:
    """How a training went.

    Attributes:
        losses: mean task loss of each epoch.
        scores: (epoch, train, validation, test) at each evaluation.
        best: weights at the best validation score, the first of equals.
    """

    losses: list[float] = field(default_factory=list)
    scores: list[tuple[int, float, float, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    _running: list[float] = field(default_factory=list)

    @property
    def best_row(self) -> int:
        """Where in `scores` the best validation score is."""
        return max(range(len(self.scores)), key=lambda i: (self.scores[i][2], -i))

    def add_loss(self, loss: float, last: bool) -> None:
        """Note a step's loss; the last of an epoch closes it."""
        self._running.append(loss)
        if last:
            self.losses.append(sum(self._running) / len(self._running))
            self._running = []

    def add_scores(self, epoch: int, scores: Scores, model: nn.Module) -> None:
        """Note an evaluation, and the weights if it is the best so far."""
        self.scores.append((epoch, scores.train, scores.validation, scores.test))
        if self.best_row == len(self.scores) - 1:
            self.best = copy.deepcopy(dict(model.state_dict()))

    def exhausted(self, patience: int | None) -> bool:
        """Whether there has been no better score for `patience` evaluations."""
        return bool(
            patience is not None
            and self.scores
            and len(self.scores) - 1 - self.best_row >= patience
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return {
            "losses": list(self.losses),
            "scores": [list(row) for row in self.scores],
            "best": dict(self.best),
            "running": list(self._running),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.losses, self._running = state["losses"], state["running"]
        self.scores = [(row[0], row[1], row[2], row[3]) for row in state["scores"]]
        self.best = state["best"]


@dataclass(frozen=True)
class Trained:
    """The finalised model with its best weights, in eval mode.

    Attributes:
        model: as of `epoch`.
        epoch: of the best validation score; the last without evaluation.
        scores: at that epoch; None without evaluation.
        history: of all epochs.
    """

    model: nn.Module
    epoch: int
    scores: Scores | None
    history: History


def train_graph(
    model: nn.Module,
    loader: Loader,
    recipe: GraphRecipe,
    *,
    evaluate: Evaluate | None = None,
    seed: int = 0,
    regime: Regime | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress = lambda stage, done, total: None,
    stage: str = "train",
) -> Trained:
    """Train in place; the result has the weights of the best validation score.

    The task loss is the cross-entropy of classes, or the binary one of each label, summed over the
    targets of a step and divided by its divisor. With a checkpoint file that exists, training goes
    on from it as if it had never stopped. The global generator (dropout) is seeded per step and
    left as it was found.

    Args:
        model: called as `model(adjacency, x)`; a PyG module, `module(x, edge_index)`, is wrapped.
        loader: the steps of each epoch.
        recipe: epochs and optimiser.
        evaluate: scores of the model, for example `partial(evaluate, graph=graph)`; without it
            the last weights are the result.
        seed: of dropout.
        regime: what the training drives at.
        checkpoint: where and how often (in steps) to save.
        progress: called after every step with (stage, steps done, all steps).
        stage: first argument of `progress`.

    Raises:
        ModelError: the loss is not finite.
        ConfigError: the checkpoint is of a run with other settings.
    """
    model = adapted(model)
    regime = Regime() if regime is None else regime
    model.train()
    handle = regime.attach(model, next(iter(loader.epoch(0))).x)
    try:
        history = History()
        optimiser = recipe.build(model, regime.param_groups())
        settings = {**asdict(recipe), **loader.settings, "model_seed": seed}
        run = Run(model, optimiser, regime, history, settings)
        first = 0 if checkpoint is None else checkpoint.resume(run)
        steps = len(loader)
        total = recipe.epochs * steps
        with torch.random.fork_rng(devices=[]):
            for epoch in range(first // steps, recipe.epochs):
                if history.exhausted(recipe.patience):
                    break
                start = max(first - epoch * steps, 0)
                if start == 0:
                    regime.on_epoch(epoch)
                for number, step in enumerate(loader.epoch(epoch, start), epoch * steps + start):
                    # torch.manual_seed would also note a call stack for each absent GPU
                    torch.default_generator.manual_seed(derive_seed(seed, "model", number))
                    regime.before_step(number, total)
                    loss = _advance(model, optimiser, regime, step, number)
                    last = (number + 1) % steps == 0
                    history.add_loss(loss, last)
                    due = (epoch + 1) % recipe.evaluate_every == 0 or epoch + 1 == recipe.epochs
                    if last and due and evaluate is not None:
                        history.add_scores(epoch, evaluate(model), model)
                    if checkpoint is not None:
                        checkpoint.save(run, number + 1)
                    progress(stage, number + 1, total)
        scores, epoch = None, len(history.losses) - 1
        if history.scores:
            epoch, *values = history.scores[history.best_row]
            scores = Scores(*values)
            model.load_state_dict(history.best)
        return Trained(regime.finalize(model).eval(), epoch, scores, history)
    finally:
        handle.remove()


def task_loss(outputs: torch.Tensor, step: Step) -> torch.Tensor:
    """The summed loss of a step's targets over its divisor."""
    if step.y.dim() == 2:
        return F.binary_cross_entropy_with_logits(outputs, step.y, reduction="sum") / step.divisor
    return F.cross_entropy(outputs, step.y, reduction="sum") / step.divisor


def _advance(
    model: nn.Module, optimiser: torch.optim.Optimizer, regime: Regime, step: Step, number: int
) -> float:
    outputs = model(step.adjacency, step.x)
    if step.rows is not None:
        outputs = outputs.index_select(0, step.rows)
    task = task_loss(outputs, step)
    context = Context(number, step.x, step.y, outputs)
    loss = torch.stack([task, *regime.loss(context).values()]).sum()
    if not torch.isfinite(loss):
        raise ModelError(f"the loss is {loss.item()} at step {number}; train slower")
    optimiser.zero_grad()
    loss.backward()
    regime.after_backward()
    optimiser.step()
    regime.after_step()
    return float(task.detach())
