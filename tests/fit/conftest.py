"""One whole fit that many tests look at."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from fit_cases import tiny

from cofit.fit import FitConfig, FitResult, run_fit


@dataclass(frozen=True)
class Fitted:
    result: FitResult
    config: FitConfig
    folder: Path
    stages: tuple[tuple[str, int, int], ...]


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """The digits network on a Cortex-M4: trained, fitted, compiled and verified."""
    folder = tmp_path_factory.mktemp("fit") / "out"
    stages = []
    result = run_fit(tiny(folder), lambda *step: stages.append(step))
    return Fitted(result, tiny(folder), folder, tuple(stages))
