"""Endpoints, one module per group, and the state they share. May import all but client and cli."""
