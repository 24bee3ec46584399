"""`python -m benchmarks`: every benchmark in turn."""

from benchmarks import cortex_m, host, mlperf_tiny

for benchmark in (cortex_m, mlperf_tiny, host):
    benchmark.main()
