"""Rank 1 of two joins and then does nothing; run by test_halo_processes."""

import sys
import time

import torch

from cofit.core import CommunicationError
from cofit.graphs.halo import gloo

try:
    with gloo(timeout_s=2) as transport:
        if transport.rank == 1:
            time.sleep(600)
        transport.start(1, [torch.empty(0)] * 2, [torch.empty(0), torch.empty(3)]).wait()
except CommunicationError as error:
    print(error, flush=True)
    sys.exit(2)
