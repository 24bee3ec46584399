"""Floor 2: reference networks in plain PyTorch, and loading networks from files."""

from cofit.models.load import Loaded, load_model, load_weights
from cofit.models.locate import find_weights
from cofit.models.normalise import Normalise
from cofit.models.sequences import GruSpeech
from cofit.models.streaming import StreamingGru
from cofit.models.zoo import ModelEntry, known_models, model

__all__ = [
    "GruSpeech",
    "Loaded",
    "ModelEntry",
    "Normalise",
    "StreamingGru",
    "find_weights",
    "known_models",
    "load_model",
    "load_weights",
    "model",
]
