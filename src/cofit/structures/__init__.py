"""Floor 2: sets of weights that hardware likes: project onto them, check, encode, detect."""

from cofit.structures.block import Block, Stripe
from cofit.structures.block_columns import BlockColumns
from cofit.structures.channel import Channel
from cofit.structures.complementary import Complementary, PairGrid, pair_levels
from cofit.structures.composition import Composition
from cofit.structures.connectivity import Connectivity
from cofit.structures.contract import Encoding, Structure, Violation
from cofit.structures.detect import detect
from cofit.structures.fixed_point import FixedPoint
from cofit.structures.library import (
    ALL_CENTRED,
    ALL_OF_FOUR,
    CORNERS,
    CORNERS8,
    CORNERS12,
    T_SHAPES,
    VGG8,
    YOLO13,
    PatternLibrary,
    covering_library,
    extract_library,
)
from cofit.structures.matching import match_filters, matching_cost
from cofit.structures.nm import NM
from cofit.structures.pattern import Pattern
from cofit.structures.polarised import Polarised, Rows, best_order
from cofit.structures.serial import from_bytes, to_bytes
from cofit.structures.support import (
    Support,
    UnitSupport,
    couples_filters,
    density,
    holds_by_zeros,
    kept_fraction,
    support,
    within,
)
from cofit.structures.text import Family, family, known_families, parse
from cofit.structures.unify import Unify
from cofit.structures.unstructured import Unstructured

__all__ = [
    "ALL_CENTRED",
    "ALL_OF_FOUR",
    "CORNERS",
    "CORNERS8",
    "CORNERS12",
    "NM",
    "T_SHAPES",
    "VGG8",
    "YOLO13",
    "Block",
    "BlockColumns",
    "Channel",
    "Complementary",
    "Composition",
    "Connectivity",
    "Encoding",
    "Family",
    "FixedPoint",
    "PairGrid",
    "Pattern",
    "PatternLibrary",
    "Polarised",
    "Rows",
    "Stripe",
    "Structure",
    "Support",
    "Unify",
    "UnitSupport",
    "Unstructured",
    "Violation",
    "best_order",
    "couples_filters",
    "covering_library",
    "density",
    "detect",
    "extract_library",
    "family",
    "from_bytes",
    "holds_by_zeros",
    "kept_fraction",
    "known_families",
    "match_filters",
    "matching_cost",
    "pair_levels",
    "parse",
    "support",
    "to_bytes",
    "within",
]
