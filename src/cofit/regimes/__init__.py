"""Floor 5: how a network is driven somewhere while an ordinary loop trains it."""

from cofit.regimes.activation_gates import ActivationGates
from cofit.regimes.activation_removal import ActivationRemoval
from cofit.regimes.admm import ADMM
from cofit.regimes.augment import Augmentation, Cutout, RandomCrop, RandomFlip, augmentation
from cofit.regimes.batches import Batches
from cofit.regimes.budget_controller import BudgetController, bisect
from cofit.regimes.checkpoint import load_checkpoint, save_checkpoint
from cofit.regimes.contract import Context, Handle, Regime, Role, Slot
from cofit.regimes.distillation import Distillation
from cofit.regimes.gates import (
    bernoulli_policy,
    gumbel_sigmoid,
    ste_round,
    ste_topk,
    straight_through,
    transform_gradient,
)
from cofit.regimes.gradual import Gradual, cubic_rate
from cofit.regimes.group_lasso import GroupLasso, group_lasso
from cofit.regimes.held import Held
from cofit.regimes.importance import TaylorImportance
from cofit.regimes.learned_steps import LearnedSteps, Levels
from cofit.regimes.ledger import EpochRow, Ledger
from cofit.regimes.masked import Masked
from cofit.regimes.on_grid import OnGrid
from cofit.regimes.pattern_admm import PatternADMM
from cofit.regimes.projected import PairedGrid, Projected
from cofit.regimes.prune_in_training import PruneInTraining
from cofit.regimes.qat import QAT
from cofit.regimes.recipe import Recipe
from cofit.regimes.renormalise import Renormalise, unfuse
from cofit.regimes.resume import Checkpoint
from cofit.regimes.stack import RegimeStack
from cofit.regimes.trace_cost import LayerCost, Trace, kept_macs, training_layers, training_macs
from cofit.regimes.train import fit
from cofit.regimes.unified import Unified
from cofit.regimes.variational import Variational

__all__ = [
    "ADMM",
    "QAT",
    "ActivationGates",
    "ActivationRemoval",
    "Augmentation",
    "Batches",
    "BudgetController",
    "Checkpoint",
    "Context",
    "Cutout",
    "Distillation",
    "EpochRow",
    "Gradual",
    "GroupLasso",
    "Handle",
    "Held",
    "LayerCost",
    "LearnedSteps",
    "Ledger",
    "Levels",
    "Masked",
    "OnGrid",
    "PairedGrid",
    "PatternADMM",
    "Projected",
    "PruneInTraining",
    "RandomCrop",
    "RandomFlip",
    "Recipe",
    "Regime",
    "RegimeStack",
    "Renormalise",
    "Role",
    "Slot",
    "TaylorImportance",
    "Trace",
    "Unified",
    "Variational",
    "augmentation",
    "bernoulli_policy",
    "bisect",
    "cubic_rate",
    "fit",
    "group_lasso",
    "gumbel_sigmoid",
    "kept_macs",
    "load_checkpoint",
    "save_checkpoint",
    "ste_round",
    "ste_topk",
    "straight_through",
    "training_layers",
    "training_macs",
    "transform_gradient",
    "unfuse",
]
