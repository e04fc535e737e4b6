"""HTTP: problem responses, request bodies, connections and their limits, middleware, queues and streams.

May import every package of service but api, client and cli.
"""
