"""One hostile client against a running service: it stays within its memory, and others are served meanwhile."""
