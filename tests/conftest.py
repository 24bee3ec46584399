"""Where real data and networks are; how threads wait.

Data and networks are found through COFIT_DATA and COFIT_MODELS, or beside the checkout.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Workers share the cores: OpenMP threads that spin while they wait made trainings 3.5x slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _folder(variable: str, name: str) -> Path | None:
    chosen = os.environ.get(variable)
    path = Path(chosen) if chosen else ROOT.parent / "shared" / name
    return path if path.is_dir() else None


for _variable, _name in (("COFIT_DATA", "data"), ("COFIT_MODELS", "models")):
    if (_found := _folder(_variable, _name)) is not None:
        os.environ[_variable] = str(_found)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    path = _folder("COFIT_DATA", "data")
    if path is None:
        pytest.skip("real data is absent; set COFIT_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def models_dir() -> Path:
    path = _folder("COFIT_MODELS", "models")
    if path is None:
        pytest.skip("real networks are absent; set COFIT_MODELS to their folder")
    return path
