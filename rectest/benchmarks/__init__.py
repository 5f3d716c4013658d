"""Speed and memory as gated, tracked properties: base against head in one job, and the history of both.

The benchmarks are the user's own pytest-benchmark tests. `runner` compares, `results` is what it returns, `compare` the
statistics; what runs inside the measured processes is in `inside`.
"""
