"""Rank 1 of two joins and then does nothing; run by test_halo_processes."""

import os
import sys
import time

import torch

if os.environ["RANK"] == "1":
    torch.distributed.init_process_group("gloo")
    time.sleep(600)

from cofit.core import CommunicationError
from cofit.graphs.halo import gloo

try:
    with gloo(timeout_s=2) as transport:
        transport.start(1, [torch.empty(0)] * 2, [torch.empty(0), torch.empty(3)]).wait()
except CommunicationError as error:
    print(error, flush=True)
    sys.exit(2)
