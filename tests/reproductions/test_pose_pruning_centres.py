"""Grouping by centres and offsets, the alternative to limb fields."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cofit.core import DataError
from cofit.reproductions.harness import seeded
from cofit.reproductions.pose_pruning import REPRODUCTION
from cofit.reproductions.pose_pruning.centres import (
    KNOWN_CELLS,
    UNIT_PX,
    centre_maps,
    group_by_centres,
    with_centres,
)
from cofit.reproductions.pose_pruning.claims import grouping_claim
from cofit.reproductions.pose_pruning.figures import make_scenes
from cofit.reproductions.pose_pruning.network import PoseNet, map_loss
from cofit.reproductions.pose_pruning.oks import Person, average_precision
from cofit.reproductions.pose_pruning.skeleton import STICK

SIZE, STRIDE, COUNT = (96, 96), 4, 7


def known(maps):
    """Maps as a network gives them: something where targets are free."""
    noise = np.random.default_rng(0).normal(0, 0.3, maps.shape).astype(np.float32)
    return np.where(np.isnan(maps), noise, maps)


def test_03_centres_find_the_planted_people():
    scenes = make_scenes(200, 0, "check", apart_px=12.0)
    right = 0
    for people in scenes.people:
        found = group_by_centres(known(centre_maps(people, STICK, SIZE, STRIDE)), STICK, STRIDE)
        same = len(found) == len(people) and all(
            min(np.nanmax(np.hypot(*(each.points - p).T)) for each in found) < 2.0 for p in people
        )
        right += same
    assert right >= 0.97 * len(scenes.people)  # people whose centres are near merge


def test_maps_of_a_hand_case():
    """One figure: a bump at its centre; offsets lead from every known cell to each keypoint."""
    figure = 47.5 + 4.0 * np.array(
        [(0, -4), (0, -2), (-2, 0), (2, 0), (0, 2), (-1, 2), (1, 2)], dtype=float
    )
    maps = centre_maps(figure[None], STICK, SIZE, STRIDE)
    assert maps.shape == (COUNT + 1 + 2 * COUNT, 24, 24)
    centre = (figure.mean(0) + 0.5) / STRIDE - 0.5
    row, column = np.unravel_index(maps[COUNT].argmax(), (24, 24))
    assert abs(column - centre[0]) <= 0.5 and abs(row - centre[1]) <= 0.5
    offsets = maps[COUNT + 1 :].reshape(COUNT, 2, 24, 24)
    cells = np.argwhere(~np.isnan(offsets[0, 0]))
    assert 4 <= len(cells) <= 9
    for i, j in cells:
        assert np.hypot(j - centre[0], i - centre[1]) <= KNOWN_CELLS
        reached = ((j, i) + offsets[:, :, i, j] * UNIT_PX / STRIDE + 0.5) * STRIDE - 0.5
        assert np.abs(reached - figure).max() < 1e-4
    gone = figure.copy()
    gone[3] = np.nan
    partial = centre_maps(gone[None], STICK, SIZE, STRIDE)
    assert np.isnan(partial[COUNT + 1 + 6 : COUNT + 1 + 8]).all() and not partial[3].any()
    empty = centre_maps(np.empty((0, COUNT, 2)), STICK, SIZE, STRIDE)
    assert np.isnan(empty[COUNT + 1 :]).all() and not empty[: COUNT + 1].any()
    assert group_by_centres(known(empty), STICK, STRIDE) == []


def test_offsets_place_what_has_no_peak_and_peaks_place_the_rest():
    people = make_scenes(1, 3, "check").people[0][:1]
    maps = known(centre_maps(people, STICK, SIZE, STRIDE))
    maps[0] = 0  # no head is seen
    maps[COUNT + 1 + 2] += 4.0 / UNIT_PX  # the offset of the neck is 4 px off
    (found,) = group_by_centres(maps, STICK, STRIDE)
    assert np.abs(found.points - people[0]).max() < 1.0
    maps[1:4] = 0
    assert len(group_by_centres(maps, STICK, STRIDE)) == 1
    maps[4] = 0  # two keypoints are no person
    maps[5] = 0
    assert group_by_centres(maps, STICK, STRIDE) == []


def test_a_network_learns_them():
    """A few figures by heart: every one is found again, by centres and offsets."""
    scenes = make_scenes(6, 0, "heart")
    shape = with_centres(replace(REPRODUCTION.scales["smoke"].shape, stem=8, width=24))
    model = seeded(lambda: PoseNet(shape), 0).train()
    targets = np.stack([centre_maps(p, STICK, SIZE, STRIDE) for p in scenes.people])
    x, y = torch.from_numpy(scenes.images), torch.from_numpy(targets)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(120):
        loss = map_loss(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        maps = model(x).numpy()[:, -(3 * COUNT + 1) :]
    found = [group_by_centres(each, STICK, STRIDE) for each in maps]
    truths = [
        [Person(p, area=float(np.prod(np.ptp(p, axis=0)))) for p in people]
        for people in scenes.people
    ]
    assert average_precision(truths, found, STICK.kappas) > 0.5


def test_10_bad_maps_are_refused():
    maps = np.zeros((3 * COUNT + 1, 24, 24), np.float32)
    with pytest.raises(DataError, match=r"give \(22, h, w\)"):
        group_by_centres(maps[1:], STICK, STRIDE)
    maps[3, 2, 1] = np.nan
    with pytest.raises(DataError, match="look at the network's weights"):
        group_by_centres(maps, STICK, STRIDE)
    with pytest.raises(DataError, match="people of shape"):
        centre_maps(np.zeros((1, 3, 2)), STICK, SIZE, STRIDE)


def test_the_claim_follows_what_was_measured():
    rows = {
        "limb fields": {"ap": 60.0, "macs": 2e6, "grouping_s": 1e-3},
        "centres": {"ap": 62.5, "macs": 3e6, "grouping_s": 2e-4},
    }
    claim = grouping_claim(rows)
    assert not claim.holds and claim.measured.values == (-2.5,)
    assert (
        "2.00 and 3.00 MMACs, grouping in Python 1000 and 200 us" in claim.note
        and "centres are easy" in claim.why_not
    )
    rows["centres"]["ap"] = 50.0
    assert grouping_claim(rows).holds
