"""RecNMP in use: models side by side, tables in ranks of their own, a model trained on clicks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cofit.core import DataError
from cofit.reproductions.harness import seeded
from cofit.reproductions.recnmp import traces
from cofit.reproductions.recnmp.arms import ALL
from cofit.reproductions.recnmp.clicks import DENSE, criteo_clicks, judged, planted, trained
from cofit.reproductions.recnmp.dlrm import DLRM
from cofit.reproductions.recnmp.shared import MODELS, colours, throughput_gains, together
from cofit.targets.memory import memory_system

MEMORY = memory_system().with_cache(8 << 10)


def test_more_models_ask_more_of_the_same_memory() -> None:
    found = together(20_000, 3200, 40, 20, 64, MEMORY, 0)
    assert found["models"] == list(MODELS) == [1, 2, 4, 8]
    # a bus is a bus: cycles per lookup of a saturated host do not depend on who asks
    assert max(found["host"]) < 1.1 * min(found["host"]) and min(found["host"]) >= 4
    assert all(near < host for near, host in zip(found[ALL], found["host"], strict=True))
    assert found["hits"][0] > found["hits"][-1] > 0  # but caches are shared out


def test_throughput_of_models_side_by_side_is_amdahls() -> None:
    assert throughput_gains(3.0, 1.0, [4.0], [1]) == pytest.approx([1 / (0.25 + 0.75 / 4)])
    gains = throughput_gains(1.0, 1.0, [4.0] * 4)
    assert np.all(np.diff(gains) > 0) and gains[-1] < 4
    assert throughput_gains(1.0, 1.0, [4.0], [10**9]) == pytest.approx([4.0])
    assert throughput_gains(0.0, 1.0, [4.0], [8]) == [1.0]
    assert throughput_gains(1.0, 1.0, [1.0] * 4) == [1.0] * 4


def test_a_colour_keeps_a_packet_in_one_rank() -> None:
    bags = traces.zipf(0.9, 3, 20_000, 3200, 40, 20, 0)
    found = colours(bags, 64, MEMORY, 0)
    assert found["ranks used"] == {"random pages": 8, "a rank per table": 3}
    plain, cached = found["plain"], found["cache"]
    assert plain["a rank per table"]["imbalance"] == 8 > 2 * plain["random pages"]["imbalance"]
    assert plain["a rank per table"]["cycles"] > plain["random pages"]["cycles"]
    for name, run in cached.items():
        assert run["hit_rate"] > plain[name]["hit_rate"] == 0
        assert run["cycles"] < plain[name]["cycles"]
    # each table then has one of the 8 caches instead of its share of all
    assert cached["a rank per table"]["hit_rate"] < cached["random pages"]["hit_rate"]


def test_planted_clicks_are_drawn_with_their_chances() -> None:
    clicks = planted(4000, 3, 200, 10, 0)
    assert clicks.indices.shape == (4000, 3, 10) and clicks.dense.shape == (4000, DENSE)
    assert clicks.chance is not None
    for low in (0.0, 0.25, 0.5, 0.75):
        chosen = (low <= clicks.chance) & (clicks.chance < low + 0.25)
        expected = clicks.chance[chosen]
        error = float((expected * (1 - expected)).sum().sqrt() / chosen.sum())
        assert abs(float(clicks.clicked[chosen].double().mean() - expected.mean())) < 4 * error
    assert torch.equal(planted(4000, 3, 200, 10, 0).clicked, clicks.clicked)
    assert not torch.equal(planted(4000, 3, 200, 10, 1).clicked, clicks.clicked)


def test_a_trained_model_ranks_as_well_near_memory() -> None:
    drawn = planted(3500, 2, 300, 10, 0)
    train, test = drawn.part(0, 3000), drawn.part(3000, 3500)
    model = seeded(lambda: DLRM((300, 300), DENSE, 16, 32), 0).eval()
    before = judged(model, test, MEMORY, 0)
    steps: list[int] = []
    trained(model, train, 3, 0, lambda stage, done, count: steps.append(done))
    after = judged(model, test, MEMORY, 0)
    assert steps == list(range(3 * 24))
    assert after["torch"] > max(0.7, before["torch"] + 0.1) and after["torch"] < after["best"]
    assert abs(after["near"] - after["torch"]) < 1e-4 and 0 < after["error"] < 1e-5
    with torch.no_grad():
        model.embeddings[0].weight.zero_()  # its rows are what it has learned
    assert judged(model, test, MEMORY, 0)["torch"] < after["torch"] - 0.03


def test_criteo_clicks(data_dir: Path) -> None:
    train, test = criteo_clicks(1000)
    assert (len(train), int(train.clicked.sum())) == (1999, 418)
    assert (len(test), int(test.clicked.sum())) == (200, 49)
    assert train.indices.shape == (1999, 26, 1) and int(train.indices.max()) < 1000
    assert train.dense.shape == (1999, 13) and float(train.dense[0, 4]) == pytest.approx(
        np.log1p(1382)
    )


def test_malformed_criteo_clicks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFIT_DATA", str(tmp_path))
    folder = tmp_path / "criteo_sample"
    folder.mkdir()
    for name in ("train.tiny.csv", "criteo_sample.txt"):
        (folder / name).write_text("Id,C1\n1,zz\n")
    with pytest.raises(DataError, match=r"train\.tiny\.csv: .*; fetch the file again"):
        criteo_clicks(100)
