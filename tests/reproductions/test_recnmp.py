"""RecNMP as a reproduction: the software twin, real traces, a whole model, the smoke run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from provenance import states_sources

from cofit.core import ConfigError, DataError, numpy_generator
from cofit.reproductions import reproduce
from cofit.reproductions.harness import seeded
from cofit.reproductions.recnmp import traces
from cofit.reproductions.recnmp.arms import ALL, ARMS, FAIR, every_arm, parts
from cofit.reproductions.recnmp.dlrm import DLRM, pooled_near_memory
from cofit.reproductions.recnmp.twin import VARIANTS, Twin, race_variants, random_table
from cofit.targets.memory import (
    Bags,
    bags_of,
    memory_system,
    packets,
    place,
    stack_distances,
    zipf_stream,
)


def small_twin(width: int = 16) -> Twin:
    generator = numpy_generator(0, "twin")
    streams = [zipf_stream(3000, 1.05, 4000, generator) for _ in range(2)]
    bags = packets(bags_of(streams, [3000, 3000], 20, 16), 1).bags
    return Twin(generator.standard_normal((6000, width), np.float32), bags, 3)


@pytest.mark.parametrize("width", [16, 32])
def test_10_twin_is_bit_equal_and_timed_cold_and_warm(width: int) -> None:
    twin = small_twin(width)
    expected = np.zeros((len(twin.bags), width), np.float32)
    for bag, row in zip(twin.bags.bag, twin.bags.ids, strict=True):
        expected[bag] += twin.table[row]  # float32, in the order of the bag
    for variant in VARIANTS:
        out, seconds, profile_s = twin.run(variant)
        assert out.tobytes() == expected.tobytes(), variant
        assert seconds > 0 and (profile_s > 0) == (variant in ("packed", "table-aware"))
    found = race_variants(twin, 3)
    assert found["differing"] == 0
    for variant in VARIANTS:
        assert len(found[f"{variant}/warm"]) == len(found[f"{variant}/cold"]) == 3
    with pytest.raises(ConfigError, match="unknown variant 'fast'; known: plain"):
        twin.run("fast")


def test_10_a_twin_that_drops_a_lookup_is_seen() -> None:
    twin = small_twin()
    shorter = Bags(
        twin.bags.rows, twin.bags.table, twin.bags.batch,
        np.minimum(twin.bags.offsets, twin.bags.lookups - 1), twin.bags.indices[:-1],
    )  # fmt: skip
    full, _, _ = twin.run("plain")
    less, _, _ = Twin(twin.table, shorter, 3).run("table-aware")
    assert (full[:-1] == less[:-1]).all() and (full[-1] != less[-1]).any()


def test_tables_are_random_enough() -> None:
    table = random_table(5000, 16, 0)
    assert table.shape == (5000, 16) and abs(float(table.mean())) < 0.1 < float(table.std())


def test_every_arm_and_what_must_not_differ() -> None:
    bags = traces.zipf(0.9, 3, 20_000, 16_000, 80, 20, 0)
    found = every_arm(bags, 64, memory_system().with_cache(8 << 10), 0)
    assert set(ARMS) < set(found)
    judged, held_out = parts(bags)
    assert judged.lookups + held_out.lookups == bags.lookups
    assert not set(judged.batch.tolist()) & set(held_out.batch.tolist())
    assert found["host"]["cycles"] >= 4  # the bus
    assert found["8 ranks"]["cycles"] < found["4 ranks"]["cycles"] < found["2 ranks"]["cycles"]
    assert found["host"]["hit_rate"] == found["8 ranks"]["hit_rate"] == 0
    assert found["profile"]["hit_rate"] >= found["cache"]["hit_rate"] > 0
    assert found["cache"]["cycles"] < found["8 ranks"]["cycles"]
    assert found[FAIR]["cycles"] < found["host"]["cycles"]
    assert found[ALL]["energy_pj"]["paper_recall"] < found["host"]["energy_pj"]["paper_recall"]
    assert found["8 ranks"]["imbalance"] > 1.02  # ranks are not balanced by construction


def test_criteo_lookups(data_dir: Path) -> None:
    columns = traces.criteo_rows(1 << 20)
    assert len(columns) == 26 and {len(column) for column in columns} == {1999 + 1999 + 200}
    train = (data_dir / "criteo_sample" / "train.tiny.csv").read_text().splitlines()[1].split(",")
    assert columns[0][0] == int(train[15], 16) % (1 << 20)
    shares = [len(np.unique(column)) / len(column) for column in columns]
    assert min(shares) < 0.01 and max(shares) > 0.3
    bags = traces.criteo(1 << 20, 20, 16)
    assert len(bags) == 26 * (4198 // 20) and (bags.sizes == 20).all()


def test_resampled_traces_keep_the_stack_distances(data_dir: Path) -> None:
    bags = traces.resampled(2, 1_000_000, 20_000, 80, 16, 0)
    columns = sorted(traces.criteo_rows(1_000_000), key=lambda c: -len(np.unique(c)))
    for table in range(2):
        stream = bags.indices[bags.lookup_table == table]
        order = np.argsort(bags.bag[bags.lookup_table == table], kind="stable")
        found, source = stack_distances(stream[order]), stack_distances(columns[table])
        for depth in (10, 100):
            near = [float(((d >= 0) & (d < depth)).mean()) for d in (found, source)]
            assert near[0] == pytest.approx(near[1], abs=0.02)
        assert (found < 0).mean() == pytest.approx((source < 0).mean(), abs=0.03)


def test_words_and_graph(data_dir: Path) -> None:
    words = traces.words(40, 256, 0)
    assert words.lookups > 500_000 and words.rows[0] > 15_000
    counts = np.sort(np.bincount(words.indices))[::-1]
    assert counts[0] / words.lookups == pytest.approx(0.06, abs=0.02)  # "the"
    graph = traces.neighbours(256, 0)
    assert graph.rows == (11_758,) and graph.lookups == 2 * 519_000
    assert graph.sizes.min() >= 0 and graph.sizes.max() > 1000


def test_absent_and_malformed_criteo_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFIT_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COFIT_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="criteo_sample"):
        traces.criteo_rows(100)
    folder = tmp_path / "criteo_sample"
    folder.mkdir()
    for name in ("train.tiny.csv", "test.tiny.csv", "criteo_sample.txt"):
        (folder / name).write_text("Id,C1\n1,zz\n")
    with pytest.raises(DataError, match=r"train.tiny.csv, line 2: .*expected columns C1 to C26"):
        traces.criteo_rows(100)


def test_a_model_scores_the_same_near_memory() -> None:
    model = seeded(lambda: DLRM((300, 300, 300), 13, 16, 32), 0).eval()
    generator = numpy_generator(0, "scores")
    indices = torch.from_numpy(generator.integers(300, size=(9, 3, 40)))
    dense = torch.from_numpy(generator.standard_normal((9, 13), np.float32))
    placement = place((300, 300, 300), 64, memory_system(), generator)
    pooled = pooled_near_memory(model, indices, placement)
    with torch.no_grad():
        expected = model(dense, indices)
        assert torch.allclose(model.score(dense, pooled), expected, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(model.score(dense, pooled[[1, *range(1, 9)]]), expected)


def test_smoke_run_and_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFIT_DATA", str(tmp_path / "none"))
    calls: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append(stage)

    finding = reproduce("recnmp", "smoke", tmp_path, progress)
    assert states_sources(finding)
    claims = {claim.claim: claim for claim in finding.claims}
    assert all(math.isfinite(value) for c in finding.claims for value in c.measured.values)
    held = [text for text, claim in claims.items() if claim.holds]
    for part in ("differ from the plain", "uniform lookups beyond", "largest error", "1 to 8"):
        assert any(part in text for text in held), part
    published = next(claim for claim in finding.claims if "9.8x" in claim.published)
    assert published.note.startswith("no reproduction of the figure")
    assert calls
    calls.clear()
    (tmp_path / "finding.json").unlink()
    again = reproduce("recnmp", "smoke", tmp_path, progress)
    assert not calls and again.claims == finding.claims
