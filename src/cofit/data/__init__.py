"""Floor 2: data sets as tensors with disjoint train, validation and test parts."""

from cofit.data.catalogue import Source, known_data, load
from cofit.data.dataset import Dataset, Split
from cofit.data.download import download
from cofit.data.mfcc import mfcc

__all__ = ["Dataset", "Source", "Split", "download", "known_data", "load", "mfcc"]
