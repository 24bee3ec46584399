"""Values of a configuration: what is kept, what is refused, what decides the result."""

from pathlib import Path

import pytest

from cofit.core import ConfigError, FileError
from cofit.fit import FitConfig, make_config, read_config

LEAST = {"model": "digits_resnet", "data": "digits", "budget": "latency<=0.5x"}
FULL = {
    "model": 'odd "name"\\with:factory',
    "data": "tüben.npz",
    "target": "cortex-m4:stm32f446",
    "budget": "latency<=20ms, flash<=256KB, accuracy_drop<=1%",
    "weights": "weights/net.safetensors",
    "structures": ["block2x4", "channel", "nm2:4"],
    "rates": [8.0, 2.0, 2.0, 1.5],
    "precision": "int8",
    "pretrain_epochs": 3,
    "epochs": 4,
    "rounds": 2,
    "batch_size": 32,
    "learning_rate": 1e-05,
    "samples": 64,
    "threads": 1,
    "seed": 7,
    "out": "runs/a b",
}


@pytest.mark.parametrize("values", [LEAST, FULL], ids=["least", "full"])
def test_toml_round_trip(tmp_path, values):
    config = make_config(values)
    file = tmp_path / "fit.toml"
    config.save(file)
    again = read_config(file, {})
    assert again == config
    assert again.to_toml() == config.to_toml()
    assert again.key == config.key


def test_values_are_normalised():
    config = make_config({**FULL, "budget": " latency<=20ms ,flash<=256KB"})
    assert config.rates == (1.5, 2.0, 8.0)
    assert config.budget == "latency<=20ms, flash<=256KB"
    assert config.weights == Path("weights/net.safetensors")
    assert config.structures == ("block2x4", "channel", "nm2:4")


def test_overrides_win(tmp_path):
    file = tmp_path / "fit.toml"
    make_config(LEAST).save(file)
    config = read_config(file, {"budget": "flash<=1KB", "seed": 3})
    assert (config.budget, config.seed, config.model) == ("flash<=1KB", 3, "digits_resnet")


def test_the_key_knows_what_decides_the_result():
    base = make_config(LEAST)
    assert make_config({**LEAST, "out": "elsewhere"}).key == base.key
    changed = {
        "model": "resnet20", "data": "other", "target": "cortex-m4", "budget": "latency<=0.4x",
        "weights": "w", "structures": ["channel"], "rates": [2.0], "precision": "int8",
        "pretrain_epochs": 1, "epochs": 1, "rounds": 1, "batch_size": 1, "learning_rate": 0.5,
        "samples": 1, "threads": 1, "seed": 1,
    }  # fmt: skip
    keys = {make_config({**LEAST, name: value}).key for name, value in changed.items()}
    assert len(keys | {base.key}) == len(changed) + 1
    assert set(changed) | {"out", "peers"} == set(FitConfig.model_fields)


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"epoch": 3}, ConfigError, "unknown key 'epoch'; known: .*epochs"),
        ({"epochs": 0}, ConfigError, "epochs = 0"),
        ({"epochs": "many"}, ConfigError, "epochs = 'many'"),
        ({"rates": []}, ConfigError, "rates must all be above 1"),
        ({"rates": [2.0, 1.0]}, ConfigError, "rates must all be above 1"),
        ({"rates": [float("inf")]}, ConfigError, "rates must all be above 1"),
        ({"learning_rate": float("nan")}, ConfigError, "learning_rate"),
        ({"learning_rate": 0}, ConfigError, "learning_rate = 0"),
        ({"precision": "int3"}, ConfigError, "precision = 'int3'.*auto"),
        ({"structures": ["blok"]}, ConfigError, "blok"),
        ({"budget": "speed<=1ms"}, ConfigError, "speed"),
        ({"budget": ""}, ConfigError, "empty"),
        ({"seed": -1}, ConfigError, "seed = -1"),
    ],
)
def test_wrong_values_are_named(values, error, text):
    with pytest.raises(error, match=text) as caught:
        make_config({**LEAST, **values})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model", "data", "budget"])
def test_what_is_missing_is_named(name):
    with pytest.raises(ConfigError, match=f"'{name}' is missing"):
        make_config({key: value for key, value in LEAST.items() if key != name})


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (b'model = "digits', ConfigError, "not valid TOML"),
        (b"\xff\xfe", FileError, "cannot read config"),
        (b'modle = "x"\n', ConfigError, "unknown key 'modle'"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, error, message):
    file = tmp_path / "fit.toml"
    file.write_bytes(text)
    with pytest.raises(error, match=message):
        read_config(file, LEAST if b"modle" in text else {})


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError, match="cannot read config"):
        read_config(tmp_path / "none.toml", {})


def test_the_demo_is_a_configuration():
    demo = Path(__file__).resolve().parents[2] / "examples" / "demo.toml"
    config = read_config(demo, {})
    assert (config.model, config.data, config.target) == ("digits_resnet", "digits", "cortex-m4")
