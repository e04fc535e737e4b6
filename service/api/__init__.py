"""Endpoints, one module per group, and the state that they share. May import every package but client and cli."""
