"""The command line: predict and explain for one patient, score for tables, in this process or through a service.

May import every package of service but http and api.

score: plan -> parts -> engine (local, remote) by an executor (attempt, cluster) -> files -> summary and exit status
"""
