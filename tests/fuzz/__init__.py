"""Bytes that nobody would send, at a real service: `make fuzz`."""
