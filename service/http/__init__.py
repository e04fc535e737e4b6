"""What any HTTP service needs: problems, bodies, the connection with its limits, middleware, queues. May import all but api, client and cli."""
