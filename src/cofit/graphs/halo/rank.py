"""The program of one rank: `python -m cofit.graphs.halo.rank OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

from cofit.core import CofitError, read_json
from cofit.graphs.halo.gloo import gloo
from cofit.graphs.halo.job import JOB, GraphJob, run_rank


def main(out: Path) -> int:
    """Train; rank 0 prints the steps done and all steps, line by line."""
    try:
        job = GraphJob(**read_json(out / JOB))
        with gloo(job.timeout_s) as transport:

            def report(stage: str, done: int, total: int) -> None:
                if transport.rank == 0:
                    print(done, total, flush=True)

            run_rank(job, out, transport, report)
    except CofitError as error:
        print("error:", error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
