"""HTTP for any service: problem responses, bodies, the connection with its limits, middleware, queues and streams.

May import every package of service but api, client and cli.
"""
