"""`heart score`: tables of patients from files, folders, pipes and object stores.

plan -> parts -> engine (local or remote) by an executor (attempt, cluster) -> output files -> summary and exit status
"""
