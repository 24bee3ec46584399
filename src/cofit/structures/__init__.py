"""Floor 2: sets of weights that hardware likes: project onto them, check, encode, detect."""

from cofit.structures.block import Block, Stripe
from cofit.structures.channel import Channel
from cofit.structures.composition import Composition
from cofit.structures.connectivity import Connectivity
from cofit.structures.contract import Encoding, Structure, Violation
from cofit.structures.detect import detect
from cofit.structures.fixed_point import FixedPoint
from cofit.structures.library import (
    ALL_CENTRED,
    CORNERS,
    T_SHAPES,
    VGG8,
    YOLO13,
    PatternLibrary,
    extract_library,
)
from cofit.structures.nm import NM
from cofit.structures.pattern import Pattern
from cofit.structures.serial import from_bytes, to_bytes
from cofit.structures.support import Support, UnitSupport, density, kept_fraction, support
from cofit.structures.text import Family, family, known_families, parse
from cofit.structures.unify import Unify
from cofit.structures.unstructured import Unstructured

__all__ = [
    "ALL_CENTRED",
    "CORNERS",
    "NM",
    "T_SHAPES",
    "VGG8",
    "YOLO13",
    "Block",
    "Channel",
    "Composition",
    "Connectivity",
    "Encoding",
    "Family",
    "FixedPoint",
    "Pattern",
    "PatternLibrary",
    "Stripe",
    "Structure",
    "Support",
    "Unify",
    "UnitSupport",
    "Unstructured",
    "Violation",
    "density",
    "detect",
    "extract_library",
    "family",
    "from_bytes",
    "kept_fraction",
    "known_families",
    "parse",
    "support",
    "to_bytes",
]
