"""`python -m benchmarks`: every benchmark in turn."""

from benchmarks import mlperf_tiny

for benchmark in (mlperf_tiny,):
    benchmark.main()
