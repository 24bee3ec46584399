"""Batches, augmentations, checkpoints, budgets: the small services of the room."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from regime_nets import conv_net

from cofit.core import ConfigError, DataError, FileError, InfeasibleError, torch_generator
from cofit.regimes import (
    Batches,
    BudgetController,
    Cutout,
    RandomCrop,
    RandomFlip,
    Recipe,
    bisect,
    load_checkpoint,
    save_checkpoint,
)
from cofit.regimes.recipe import restore_optimiser


def images(n=64):
    """Pixel values that tell image, channel, row and column apart; none is zero."""
    return torch.arange(1.0, n * 3 * 6 * 5 + 1).view(n, 3, 6, 5)


def test_crop_is_one_window_of_the_padded_image_and_all_windows_occur():
    x = images(400)
    y = RandomCrop(1)(x, torch_generator(0))
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    seen = set()
    for i in range(len(x)):
        fits = [
            (r, c)
            for r in range(3)
            for c in range(3)
            if torch.equal(padded[i, :, r : r + 6, c : c + 5], y[i])
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) == 9 and y.shape == x.shape


def test_flip_mirrors_about_half_of_the_images():
    x = images(400)
    y = RandomFlip()(x, torch_generator(0))
    same, mirrored = (y == x).flatten(1).all(1), (y == x.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert abs(int(mirrored.sum()) - 200) < 40
    assert torch.equal(RandomFlip(1.0)(x, torch_generator(0)), x.flip(-1))


def test_cutout_is_a_square_clipped_at_the_border():
    x = images(200)
    holes = Cutout(3)(x, torch_generator(0)) == 0
    assert (holes == holes[:, :1]).all()
    rows, columns = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(holes[:, 0].sum((1, 2)), rows * columns)
    assert set(rows.tolist()) == {2, 3} == set(columns.tolist())
    assert torch.equal(Cutout(3)(x, torch_generator(0))[~holes], x[~holes])


@pytest.mark.parametrize("augmentation", [RandomCrop(2), RandomFlip(), Cutout(2)])
def test_augmentations_draw_from_their_generator_only(augmentation):
    x = images(8)
    before = torch.get_rng_state()
    first = augmentation(x, torch_generator(1))
    assert torch.equal(first, augmentation(x, torch_generator(1)))
    assert not torch.equal(first, augmentation(x, torch_generator(2)))
    assert torch.equal(before, torch.get_rng_state())


def test_batches_cover_an_epoch_and_start_anywhere():
    x = images(10)
    data = Batches(x, torch.arange(10), 3, seed=4, augment=(RandomCrop(1),))
    epoch = list(data.epoch(1))
    targets = torch.cat([y for _, y in epoch])
    assert len(data) == len(epoch) == 3 and len(set(targets.tolist())) == 9
    for first in range(4):
        for (a, ya), (b, yb) in zip(data.epoch(1, first), epoch[first:], strict=True):
            assert torch.equal(a, b) and torch.equal(ya, yb)
    others = [torch.cat([y for _, y in data.epoch(e)]).tolist() for e in (0, 2)]
    others.append(torch.cat([y for _, y in Batches(x, torch.arange(10), 3).epoch(1)]).tolist())
    assert targets.tolist() not in others
    plain = next(Batches(x, torch.arange(10), 3).epoch(0))
    assert torch.equal(plain[0], x[plain[1]])
    with pytest.raises(DataError, match="11"):
        Batches(x, torch.arange(10), 11)
    with pytest.raises(DataError, match="9 targets"):
        Batches(x, torch.arange(9), 2)


def leaves():
    return (
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=5)
        | st.floats(allow_nan=False, allow_infinity=False)
    )


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        leaves(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
            | st.tuples(inner, inner)
        ),
        max_leaves=8,
    )
)
def test_checkpoint_round_trip_of_trees(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("tree") / "state"
    save_checkpoint(path, tree)
    assert load_checkpoint(path) == tree


def test_checkpoint_keeps_tensors_bit_for_bit_and_refuses_the_rest(tmp_path):
    path = tmp_path / "state"
    nan = torch.tensor([float("nan"), -0.0, 1e-45])
    generator = torch_generator(1)
    state = {
        "nan": nan,
        "deep": [{"a": (torch.ones(2, dtype=torch.bool), torch.tensor(3))}],
        "generator": generator.get_state(),
        "empty": torch.zeros(0, 3),
    }
    save_checkpoint(path, state)
    back = load_checkpoint(path)
    assert torch.equal(back["nan"].view(torch.int32), nan.view(torch.int32))
    assert back["deep"][0]["a"][1].item() == 3 and back["deep"][0]["a"][0].dtype == torch.bool
    assert back["empty"].shape == (0, 3)
    again = torch.Generator()
    again.set_state(back["generator"])
    assert torch.equal(torch.rand(3, generator=again), torch.rand(3, generator=generator))

    with pytest.raises(TypeError, match="set"):
        save_checkpoint(path, {"x": {1, 2}})
    assert load_checkpoint(path)["empty"].shape == (0, 3)  # the earlier file is whole
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(FileError):
        load_checkpoint(path)
    torch.save({"a": nan}, path)
    with pytest.raises(FileError, match="could run code"):
        load_checkpoint(path)


def test_optimiser_buffers_come_back_in_their_parameters_layout(tmp_path):
    model = conv_net().to(memory_format=torch.channels_last)
    recipe = Recipe(1)
    optimiser = recipe.build(model, [])
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    optimiser.step()
    save_checkpoint(tmp_path / "o", optimiser.state_dict())
    other = recipe.build(model, [])
    restore_optimiser(other, load_checkpoint(tmp_path / "o"))
    for parameter, buffers in other.state.items():
        assert buffers["momentum_buffer"].stride() == parameter.stride()
        kept = optimiser.state[parameter]["momentum_buffer"]
        assert torch.equal(buffers["momentum_buffer"], kept)


def test_recipe_rates_follow_a_cosine_and_spare_biases_from_decay():
    model, extra = conv_net(), torch.nn.Parameter(torch.zeros(3))
    recipe = Recipe(2, 0.1)
    optimiser = recipe.build(model, [{"params": [extra], "lr": 0.02, "weight_decay": 0.0}])
    decayed = [p for g in optimiser.param_groups if g["weight_decay"] > 0 for p in g["params"]]
    assert {id(p) for p in decayed} == {id(p) for p in model.parameters() if p.dim() > 1}
    for step, factor in ((0, 1.0), (5, 0.5), (10, 0.0)):
        recipe.set_rate(optimiser, step, 10)
        rates = [group["lr"] for group in optimiser.param_groups]
        assert rates == pytest.approx([0.1 * factor, 0.1 * factor, 0.02 * factor])
    with pytest.raises(ConfigError, match="epochs=0"):
        Recipe(0)


def test_controller_meets_its_budget_and_rests_below_it():
    x = torch.tensor(0.0, requires_grad=True)
    controller = BudgetController(budget=2.0, rate=0.05, decay=0.5)
    optimiser = torch.optim.SGD([x], 0.05)
    for _ in range(2000):
        cost = x.exp()  # the task wants x = 3, the budget x <= log 2
        optimiser.zero_grad()
        ((x - 3) ** 2 + controller.loss(cost)).backward()
        optimiser.step()
        controller.update(float(cost.detach()))
    assert float(x.exp().detach()) == pytest.approx(2.0, rel=1e-2)
    slack = torch.log(torch.tensor(2.0))
    assert controller.weight == pytest.approx(2 * float(3 - slack), rel=0.05)  # KKT: 2 (3 - log 2)
    idle = BudgetController(budget=2.0)
    for _ in range(5):
        idle.update(1.0)
    assert idle.weight == 0.0 and float(idle.loss(torch.tensor(5.0))) == 0.0
    twin = BudgetController(budget=2.0, rate=0.05, decay=0.5)
    twin.load_state_dict(controller.state_dict())
    twin.update(3.0), controller.update(3.0)
    assert twin.weight == controller.weight


def test_bisection_finds_the_smallest_dial():
    calls = []

    def cost(dial):
        calls.append(dial)
        return 10.0 / dial

    found = bisect(cost, 2.5, 1.0, 16.0, tolerance=1e-6)
    assert 4.0 <= found <= 4.0 + 1e-6 and len(calls) < 32
    assert bisect(cost, 100.0, 1.0, 16.0) == 1.0
    steps = bisect(lambda dial: 3 - int(dial), 1, 0.0, 5.0, tolerance=1e-9)
    assert steps == pytest.approx(2.0)
    with pytest.raises(InfeasibleError, match=r"0\.625"):
        bisect(cost, 0.5, 1.0, 16.0)
