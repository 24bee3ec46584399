"""Floor 6: spaces of decisions, strategies that explore them, and the ledger of what was tried."""

from cofit.search.bayesian import Bayesian
from cofit.search.evolution import Evolution
from cofit.search.ledger import Evaluation, Ledger, best, explore
from cofit.search.pruned import Pruned, depth_first, pareto
from cofit.search.space import Candidate, Decision, Space
from cofit.search.strategy import Outcome, RandomSearch, Strategy

__all__ = [
    "Bayesian",
    "Candidate",
    "Decision",
    "Evaluation",
    "Evolution",
    "Ledger",
    "Outcome",
    "Pruned",
    "RandomSearch",
    "Space",
    "Strategy",
    "best",
    "depth_first",
    "explore",
    "pareto",
]
