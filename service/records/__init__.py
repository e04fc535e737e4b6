"""Decode JSON records, build results, and define their errors and schemas. May import patient; knows no HTTP."""
