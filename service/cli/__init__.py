"""What `heart` does in this room: one patient (ask.py); tables as files, in process or through a service (score.py).

plan -> parts -> an engine (local.py, remote.py, cluster.py) -> files that are whole -> summary, exit status
"""
