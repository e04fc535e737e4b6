"""`heart predict`, `heart explain`: one patient (ask.py). `heart score`: files, folders and object stores through the model, without HTTP or through a service.

plan -> parts -> an engine (local.py, remote.py, cluster.py) -> files that are whole -> summary, exit status
"""
