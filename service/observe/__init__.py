"""Metrics in shared memory, drift histograms, the Prometheus exposition and logs; imports tables, model and records."""
