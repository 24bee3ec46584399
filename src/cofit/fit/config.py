"""What one fit is asked to do: the same fields as a call, as command options, and as TOML keys."""

from __future__ import annotations

import hashlib
import math
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cofit.core import Budget, ConfigError, FileError
from cofit.core.files import write_text
from cofit.structures import family

PRETRAIN_EPOCHS = 20
RATES = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)


class FitConfig(BaseModel):
    """One fit. Paths are as given; relative ones are relative to the current folder.

    Attributes:
        model: zoo name, `package.module:factory`, or a .pt2 file.
        data: data set name or .npz file.
        target: target name, for example "host" or "cortex-m4:stm32f446".
        budget: limits, see `cofit.core.Budget`.
        weights: safetensors file of the trained network.
        structures: families to choose from; default: those the target's kernels run fast.
        rates: pruning rates to choose from.
        precision: arithmetic of the program; "auto" lets the plan choose (always int8 on Cortex-M).
        pretrain_epochs: epochs of training first when there are no weights; default: 20 for a
            network that cofit knows, none for yours, which is taken as trained.
        epochs: epochs of training into the chosen structures, per round.
        rounds: how often to plan again at most when reality misses the plan.
        batch_size: images per training step.
        learning_rate: peak learning rate of fitting, of Adam; default: by how far the pruned
            network is from the dense one (see `training.suited_rate`).
        samples: validation images used for sensitivities.
        threads: torch threads while training.
        seed: of every random draw.
        peers: also time other runtimes on the dense network.
        out: folder of the results.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    data: str
    target: str = "host"
    budget: str
    weights: Path | None = None
    structures: tuple[str, ...] | None = None
    rates: tuple[float, ...] = RATES
    precision: Literal["auto", "fp32", "int8"] = "auto"
    pretrain_epochs: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=10, ge=1)
    rounds: int = Field(default=3, ge=1, le=10)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    samples: int = Field(default=256, ge=1)
    threads: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=0)
    peers: bool = False
    out: Path = Path("runs/fit")

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        Budget.parse(value)
        return ", ".join(term.strip() for term in value.split(","))

    @field_validator("structures")
    @classmethod
    def _structures(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            family(name)
        return value

    @field_validator("rates")
    @classmethod
    def _rates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(1 < rate < math.inf for rate in value):
            raise ValueError("rates must all be above 1 (1 / density), for example 2, 4, 8")
        return tuple(sorted(set(value)))

    @property
    def key(self) -> str:
        """Digest of everything that decides the result; equal keys may resume each other."""
        text = self.model_dump_json(exclude={"out", "peers"})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """The same fit as a file for `cofit fit --config`."""
        values = self.model_dump(mode="json", exclude_none=True)
        return "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())

    def save(self, path: Path) -> None:
        """Write `to_toml()`."""
        write_text(path, self.to_toml())


def make_config(values: dict[str, Any]) -> FitConfig:
    """Check values.

    Raises:
        ConfigError: one line naming the first wrong field, its value and what is allowed.
    """
    try:
        return FitConfig(**values)
    except ValidationError as error:
        raise ConfigError(_first(error)) from error


def read_config(path: Path, overrides: dict[str, Any]) -> FitConfig:
    """Read TOML; `overrides` (from the command line) win.

    Raises:
        FileError: unreadable file.
        ConfigError: malformed TOML, unknown key, wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read config {str(path)!r}: {error}") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{str(path)!r} is not valid TOML: {error}") from error
    return make_config({**values, **overrides})


def _first(error: ValidationError) -> str:
    details = error.errors(include_url=False)
    unknown = [d for d in details if d["type"] == "extra_forbidden"]  # explains what is missing
    detail = (unknown or details)[0]
    name = ".".join(map(str, detail["loc"])) or "configuration"
    if detail["type"] == "extra_forbidden":
        return f"unknown key {name!r}; known: {', '.join(FitConfig.model_fields)}"
    if detail["type"] == "missing":
        return f"{name!r} is missing; give it as an option or in the config file"
    message = detail["msg"].removeprefix("Value error, ")
    return (
        message if name in ("budget", "structures") else f"{name} = {detail['input']!r}: {message}"
    )


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
