"""`python -m benchmarks`: every benchmark in turn."""

from benchmarks import arrays, cortex_m, dataflow, host, memory, mlperf_tiny

for benchmark in (dataflow, arrays, memory, cortex_m, mlperf_tiny, host):
    benchmark.main()
