"""What is fitted: a network and its data, checked to belong together."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from cofit.core import DataError
from cofit.data import Dataset, Split, load
from cofit.fit.config import FitConfig
from cofit.models import Normalise, load_model
from cofit.regimes import Augmentation, augmentation


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with data in the form the network takes.

    Attributes:
        name: how reports call the network.
        module: the network; trained unless `untrained`.
        data: inputs already mapped by the network's preprocessing.
        augment: transforms of training batches.
        untrained: the network has random weights and must be trained first.
    """

    name: str
    module: nn.Module
    data: Dataset
    augment: Sequence[Augmentation]
    untrained: bool

    @property
    def identifier(self) -> str:
        """The name as a C identifier, for generated code."""
        text = re.sub(r"\W+", "_", self.name.rpartition("/")[2]).strip("_") or "network"
        return text if text[0].isalpha() else f"n_{text}"

    @property
    def digest(self) -> str:
        """Digest of the weights and the data: a stored fit resumes only with the same ones."""
        sha = hashlib.sha256()
        for key, tensor in sorted(self.module.state_dict().items()):
            sha.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        for split in (self.data.train, self.data.validation, self.data.test):
            sha.update(split.inputs.numpy().tobytes() + split.targets.numpy().tobytes())
        return sha.hexdigest()[:16]

    @property
    def example(self) -> torch.Tensor:
        """One training input, batch 1."""
        return self.data.train.inputs[:1]

    @property
    def calibration(self) -> torch.Tensor:
        """Training inputs for activation ranges and bias correction."""
        return self.data.train.inputs[:512]


def load_subject(config: FitConfig) -> Subject:
    """Load the network and the data that a configuration names."""
    loaded = load_model(config.model, weights=config.weights, seed=config.seed)
    return make_subject(
        loaded.name,
        loaded.module,
        load(config.data),
        loaded.preprocess,
        untrained=config.weights is None and (loaded.fresh or config.pretrain_epochs is not None),
    )


def make_subject(
    name: str, module: nn.Module, data: Dataset, preprocess: Normalise | None, untrained: bool
) -> Subject:
    """Check that network and data fit each other, and apply the preprocessing once.

    Raises:
        DataError: shapes or numbers of classes differ; says both.
    """
    prepared = data if preprocess is None else _mapped(data, preprocess)
    example = prepared.train.inputs[:1]
    was_training = module.training
    try:
        with torch.no_grad():
            scores = module.eval()(example)
    except (RuntimeError, ValueError) as error:
        cause = str(error).splitlines()[0]
        raise DataError(
            f"network {name!r} does not take inputs of shape {tuple(example.shape[1:])} "
            f"of data {data.name!r}: {cause}"
        ) from error
    finally:
        module.train(was_training)
    if scores.dim() != 2 or scores.shape[1] != len(data.classes):
        raise DataError(
            f"network {name!r} gives outputs of shape {tuple(scores.shape[1:])}, data "
            f"{data.name!r} has {len(data.classes)} classes; fit needs one score per class"
        )
    augment = tuple(augmentation(text) for text in data.augment)
    return Subject(name, module, prepared, augment, untrained)


def _mapped(data: Dataset, preprocess: Normalise) -> Dataset:
    def mapped(split: Split) -> Split:
        return Split(preprocess(split.inputs), split.targets)

    return replace(
        data,
        train=mapped(data.train),
        validation=mapped(data.validation),
        test=mapped(data.test),
    )
