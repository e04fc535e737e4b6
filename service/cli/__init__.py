"""The command line: predict and explain for one patient, score for tables, in this process or through a service.

May import every package of service but http, observe and api.
"""
