"""Metrics in shared memory, drift histograms, the Prometheus exposition and logs. May import model; knows no HTTP."""
