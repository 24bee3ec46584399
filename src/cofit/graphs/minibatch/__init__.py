"""Mini-batch training on a device with little memory, and closed forms of what it costs."""

from cofit.graphs.minibatch.cache import Cache, FIFOCache, LRUCache, StaticCache, build_cache
from cofit.graphs.minibatch.closed_form import ClosedForm, Terms, model_bytes
from cofit.graphs.minibatch.configuration import (
    DYNAMIC,
    FAMILIES,
    POLICIES,
    STATIC,
    TEMPLATES,
    Configuration,
)
from cofit.graphs.minibatch.device import Arena, Device
from cofit.graphs.minibatch.expectation import Expectation, Visits
from cofit.graphs.minibatch.loader import CachedLoader, Phases, hit_rate
from cofit.graphs.minibatch.measure import Measurement, measure, network
from cofit.graphs.minibatch.metered import Metered
from cofit.graphs.minibatch.rates import Rates, fit_rates
from cofit.graphs.minibatch.sampling import (
    CacheBiasedSampler,
    LayerSampler,
    SubgraphSampler,
    build_sampler,
)

__all__ = [
    "DYNAMIC",
    "FAMILIES",
    "POLICIES",
    "STATIC",
    "TEMPLATES",
    "Arena",
    "Cache",
    "CacheBiasedSampler",
    "CachedLoader",
    "ClosedForm",
    "Configuration",
    "Device",
    "Expectation",
    "FIFOCache",
    "LRUCache",
    "LayerSampler",
    "Measurement",
    "Metered",
    "Phases",
    "Rates",
    "StaticCache",
    "SubgraphSampler",
    "Terms",
    "Visits",
    "build_cache",
    "build_sampler",
    "fit_rates",
    "hit_rate",
    "measure",
    "model_bytes",
    "network",
]
