"""A data set held as two tensors, in seeded batches that can start anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from cofit.core import DataError, torch_generator
from cofit.regimes.augment import Augmentation


@dataclass(frozen=True, eq=False)
class Batches:
    """Shuffled, augmented mini-batches; the last incomplete one of an epoch is left out.

    The order of an epoch and the augmentation of a batch depend on (seed, epoch, batch) only, so a
    resumed run sees what an uninterrupted one sees.

    Args:
        inputs: (N, ...), float.
        targets: (N, ...).
        size: examples per batch.
        seed: of the order and of the augmentations.
        augment: applied to each batch of inputs in order.
        channels_last: memory layout of images, and of the network that `fit` trains on them. It is
            faster, but with 6, 12 and 24 channels a backward pass in it was seen to corrupt the
            heap inside torch (2.13, AVX2; no such thing in the other layout).

    Raises:
        DataError: lengths differ, or there is not one whole batch.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    size: int = 128
    seed: int = 0
    augment: Sequence[Augmentation] = ()
    channels_last: bool = True

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise DataError(
                f"{len(self.inputs)} inputs but {len(self.targets)} targets; give one per input"
            )
        if not 1 <= self.size <= len(self.inputs):
            raise DataError(
                f"batch size {self.size} of {len(self.inputs)} examples; "
                "it must be from 1 to their number"
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.inputs) // self.size

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of an epoch from batch `first` on."""
        shuffle = torch_generator(self.seed, "shuffle", epoch)
        order = torch.randperm(len(self.inputs), generator=shuffle)
        for batch in range(first, len(self)):
            rows = order[batch * self.size : (batch + 1) * self.size]
            x = self.inputs[rows]
            generator = torch_generator(self.seed, "augment", epoch, batch)
            for transform in self.augment:
                x = transform(x, generator)
            if x.dim() == 4 and self.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            yield x, self.targets[rows]
