"""Metrics in shared memory, drift histograms, the Prometheus exposition and logs. May import what records, model and tables hold; knows no HTTP."""
