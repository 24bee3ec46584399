"""The training loop: against a hand-written one, its selection, its hooks, and its resumption."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from tests.graphs.dense import dense
from tests.graphs.kill_training import train as train_or_die
from torch import nn

from cofit.core import ConfigError, DataError, ModelError, torch_generator
from cofit.graphs import (
    FullGraph,
    Graph,
    GraphRecipe,
    Sampled,
    Scores,
    accuracy,
    build_gnn,
    evaluate,
    load_graph,
    roc_auc,
    stochastic_block_model,
    train_graph,
)
from cofit.regimes import Checkpoint, Context, Regime


@pytest.fixture(scope="module")
def blocks() -> Graph:
    """400 nodes whose features alone do not tell the classes."""
    return stochastic_block_model(
        400, classes=4, degree=12, homophily=0.8, features=16, noise=1.0, seed=0
    )


def test_ten_steps_are_those_of_a_dense_loop(blocks: Graph) -> None:
    assert blocks.x is not None and blocks.y is not None and blocks.train_mask is not None
    graph = replace(blocks, x=blocks.x.double())
    model = build_gnn("gcn", [16, 8, 4], seed=0).double()
    weights = [p.detach().clone().requires_grad_() for p in model.parameters()]
    optimiser = torch.optim.Adam(
        [
            {"params": [p for p in weights if p.dim() > 1], "weight_decay": 0.01},
            {"params": [p for p in weights if p.dim() <= 1]},
        ],
        lr=0.05,
    )
    matrix = dense(graph.adjacency.normalised)
    losses = []
    for _ in range(10):
        hidden = torch.relu(matrix @ graph.x @ weights[0].T + weights[1])
        outputs = matrix @ hidden @ weights[2].T + weights[3]
        loss = F.cross_entropy(outputs[graph.train_mask], graph.y[graph.train_mask])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    trained = train_graph(model, FullGraph(graph), GraphRecipe(10, 0.05, weight_decay=0.01))
    assert trained.history.losses == pytest.approx(losses, abs=1e-12)
    for found, expected in zip(trained.model.parameters(), weights, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_neighbours_tell_what_the_features_do_not(blocks: Graph) -> None:
    alone = Graph.from_edges(torch.zeros(2, 0, dtype=torch.int64), 400, x=blocks.x, y=blocks.y)
    alone = replace(
        alone,
        train_mask=blocks.train_mask,
        val_mask=blocks.val_mask,
        test_mask=blocks.test_mask,
    )
    found = []
    for graph in (blocks, alone):
        model = build_gnn("gcn", [16, 16, 4], seed=0, dropout=0.5)
        recipe = GraphRecipe(60, weight_decay=5e-4)
        scores = partial(evaluate, graph=graph)
        trained = train_graph(model, FullGraph(graph), recipe, evaluate=scores)
        assert trained.scores is not None
        found.append(trained.scores.test)
    assert found[0] > 0.9 and found[1] < 0.75


def test_sampled_with_all_neighbours_in_one_batch_is_the_full_graph(blocks: Graph) -> None:
    full, sampled = (build_gnn("sage", [16, 8, 4], seed=0) for _ in range(2))
    first = train_graph(full, FullGraph(blocks), GraphRecipe(5))
    loader = Sampled(blocks, (None, None), batch_size=1000)
    second = train_graph(sampled, loader, GraphRecipe(5))
    assert len(loader) == 1
    assert second.history.losses == pytest.approx(first.history.losses, rel=1e-5)


def test_an_epoch_sees_every_training_node_once_and_epochs_differ(blocks: Graph) -> None:
    assert blocks.train_mask is not None
    names = replace(blocks, y=torch.arange(400))  # labels that tell the node
    loader = Sampled(names, (2, 2), batch_size=64, seed=3)
    epochs = [[step.y for step in loader.epoch(epoch)] for epoch in (0, 1, 0)]
    assert [len(batch) for batch in epochs[0]] == [64, 64, 64, 8] and len(loader) == 4
    for batches in epochs:
        rows = torch.nonzero(blocks.train_mask).squeeze(1)
        assert torch.equal(torch.cat(batches).sort().values, rows)
    assert all(map(torch.equal, epochs[0], epochs[2]))
    assert not torch.equal(epochs[0][0], epochs[1][0])
    whole, part = list(loader.epoch(1)), list(loader.epoch(1, first=2))
    assert torch.equal(whole[2].x, part[0].x) and len(part) == 2


def test_selection_is_by_validation_and_never_by_test(blocks: Graph) -> None:
    validation, test = [0.1, 0.6, 0.6, 0.2], [0.2, 0.3, 0.1, 0.9]
    seen: list[torch.Tensor] = []

    def scripted(model: nn.Module) -> Scores:
        seen.append(next(model.parameters()).detach().clone())
        return Scores(0.0, validation[len(seen) - 1], test[len(seen) - 1])

    model = build_gnn("gcn", [16, 4], seed=0)
    trained = train_graph(model, FullGraph(blocks), GraphRecipe(4), evaluate=scripted)
    assert trained.epoch == 1 and trained.scores == Scores(0.0, 0.6, 0.3)
    assert torch.equal(next(trained.model.parameters()), seen[1])
    assert not trained.model.training


def test_patience_and_rare_evaluation(blocks: Graph) -> None:
    def train(recipe: GraphRecipe, values: list[float]) -> tuple[int, list[int]]:
        scores = iter(values)
        result = train_graph(
            build_gnn("gcn", [16, 4], seed=0),
            FullGraph(blocks),
            recipe,
            evaluate=lambda m: Scores(0, next(scores), 0),
        )
        return len(result.history.losses), [row[0] for row in result.history.scores]

    assert train(GraphRecipe(9, patience=2), [0.5, 0.6, 0.1, 0.1, 0.9]) == (4, [0, 1, 2, 3])
    assert train(GraphRecipe(8, evaluate_every=3), [0.1, 0.2, 0.3]) == (8, [2, 5, 7])


class Recorder(Regime):
    """Writes down what it sees, adds a loss term, and doubles the gradients."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.model: nn.Module | None = None

    def before_step(self, step: int, total: int) -> None:
        self.calls.append(f"step {step} of {total}")

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Any:
        self.model = model
        self.calls.append(f"attach {tuple(sample.shape)}")
        return super().attach(model, sample)

    def loss(self, context: Context) -> Mapping[str, torch.Tensor]:
        assert len(context.outputs) == len(context.targets)
        return {"extra": context.outputs.square().mean()}

    def after_backward(self) -> None:
        assert self.model is not None
        self.calls.append(f"gradients {all(p.grad is not None for p in self.model.parameters())}")

    def on_epoch(self, epoch: int) -> None:
        self.calls.append(f"epoch {epoch}")

    def finalize(self, model: nn.Module) -> nn.Module:
        self.calls.append("finalize")
        return model


def test_regimes_are_called_and_their_terms_count(blocks: Graph) -> None:
    regime, plain, with_regime = Recorder(), *(build_gnn("gcn", [16, 4], seed=0) for _ in "12")
    train_graph(plain, FullGraph(blocks), GraphRecipe(2))
    train_graph(with_regime, FullGraph(blocks), GraphRecipe(2), regime=regime)
    assert regime.calls == [
        "attach (400, 16)",
        *("epoch 0", "step 0 of 2", "gradients True"),
        *("epoch 1", "step 1 of 2", "gradients True"),
        "finalize",
    ]
    assert not torch.equal(next(plain.parameters()), next(with_regime.parameters()))


def test_labels_of_a_multi_label_task(blocks: Graph) -> None:
    assert blocks.y is not None and blocks.train_mask is not None
    labels = F.one_hot(blocks.y, 4).float()
    labels[:, 0] = 1  # two labels for most nodes
    graph = replace(blocks, y=labels)
    model = build_gnn("sage", [16, 4], seed=0)
    outputs = model(graph.adjacency, graph.x)[blocks.train_mask]
    expected = F.binary_cross_entropy_with_logits(outputs, labels[blocks.train_mask]) * 4
    trained = train_graph(
        model, FullGraph(graph), GraphRecipe(60, 0.05), evaluate=partial(evaluate, graph=graph)
    )
    assert trained.history.losses[0] == pytest.approx(float(expected.detach()), rel=1e-5)
    assert trained.scores is not None and trained.scores.test > 0.9


def test_killed_training_resumes_to_the_same_losses_scores_and_weights(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    script = Path(__file__).with_name("kill_training.py")
    done = subprocess.run([sys.executable, script, path], env=os.environ, timeout=120)
    assert done.returncode == -signal.SIGKILL and path.exists()
    resumed, whole = train_or_die(path), train_or_die(None)
    assert resumed.history.losses == whole.history.losses and len(whole.history.losses) == 5
    assert resumed.history.scores == whole.history.scores
    assert (resumed.epoch, resumed.scores) == (whole.epoch, whole.scores)
    for found, expected in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, blocks: Graph) -> None:
    checkpoint = Checkpoint(tmp_path / "run", every=1)

    def train(loader: Any, recipe: GraphRecipe) -> None:
        train_graph(build_gnn("gcn", [16, 4], seed=0), loader, recipe, checkpoint=checkpoint)

    train(FullGraph(blocks), GraphRecipe(1))
    for loader, recipe in (
        (FullGraph(blocks), GraphRecipe(2)),
        (Sampled(blocks, [None], 1000), GraphRecipe(1)),
    ):
        with pytest.raises(ConfigError, match="resume with the same settings"):
            train(loader, recipe)


def test_a_loss_that_is_not_finite_stops(blocks: Graph) -> None:
    model = build_gnn("gcn", [16, 4], seed=0)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.inf)
    with pytest.raises(ModelError, match="at step 0; train slower"):
        train_graph(model, FullGraph(blocks), GraphRecipe(1))


def test_metrics() -> None:
    generator = torch_generator(0)
    outputs = torch.randint(0, 4, (200, 2), generator=generator).float()  # many ties
    targets = torch.randint(0, 2, (200,), generator=generator)
    margin = outputs[:, 1] - outputs[:, 0]
    assert roc_auc(outputs, targets) == pytest.approx(roc_auc_score(targets, margin))
    assert accuracy(torch.eye(3), torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)
    assert accuracy(torch.tensor([[1.0, -1], [1, 1]]), torch.tensor([[1.0, 0], [0, 1]])) == 0.75
    with pytest.raises(DataError, match="two classes"):
        roc_auc(outputs, torch.ones(200, dtype=torch.int64))


def test_refused(blocks: Graph) -> None:
    with pytest.raises(DataError, match="no x and no train_mask"):
        FullGraph(replace(blocks, x=None, train_mask=None))
    with pytest.raises(DataError, match="no node is in train_mask"):
        FullGraph(replace(blocks, train_mask=torch.zeros(400, dtype=torch.bool)))
    with pytest.raises(DataError, match="no val_mask"):
        evaluate(build_gnn("gcn", [16, 4], seed=0), replace(blocks, val_mask=None))
    with pytest.raises(ConfigError, match="batch size 0"):
        Sampled(blocks, [2], 0)
    for settings in (
        {"epochs": 0},
        {"epochs": 1, "patience": 0},
        {"epochs": 1, "weight_decay": -1},
    ):
        with pytest.raises(ConfigError, match="must be positive"):
            GraphRecipe(**settings)  # type: ignore[arg-type]


def test_gcn_on_cora_reaches_what_is_published(data_dir: Path) -> None:
    """81.5 % in T. Kipf, M. Welling, ICLR 2017, table 2; here with one seed."""
    graph = load_graph("cora", root=data_dir)
    assert graph.x is not None
    graph = replace(graph, x=graph.x / graph.x.sum(1, keepdim=True).clamp(min=1))
    trained = train_graph(
        build_gnn("gcn", [1433, 16, 7], seed=0, dropout=0.5),
        FullGraph(graph),
        GraphRecipe(200, weight_decay=5e-4),
        evaluate=partial(evaluate, graph=graph),
    )
    assert trained.scores is not None and trained.scores.test > 0.79
