"""Networks on point clouds: operations, sequences of them, and what is searched over them."""

from cofit.graphs.points.execution import Need, State, begin, execute, needs
from cofit.graphs.points.genotype import (
    ATTRIBUTES,
    MESSAGES,
    POOLS,
    REDUCERS,
    WIDTHS,
    Gene,
    Genes,
    Op,
    canonical,
    decode,
    message_width,
    parse,
    spell,
    widths,
)
from cofit.graphs.points.messages import messages, reduce_messages
from cofit.graphs.points.network import HEAD, Classifier, Combine, PointNetwork

__all__ = [
    "ATTRIBUTES",
    "HEAD",
    "MESSAGES",
    "POOLS",
    "REDUCERS",
    "WIDTHS",
    "Classifier",
    "Combine",
    "Gene",
    "Genes",
    "Need",
    "Op",
    "PointNetwork",
    "State",
    "begin",
    "canonical",
    "decode",
    "execute",
    "message_width",
    "messages",
    "needs",
    "parse",
    "reduce_messages",
    "spell",
    "widths",
]
