"""Compare the service with its ceiling and its peers in one interleaved run: `make bench`."""
