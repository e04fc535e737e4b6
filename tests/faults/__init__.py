"""Faults, done for real to real processes; docs/reliability.md is the table of what came of it."""
