"""The service beside its ceiling and its peers, in one interleaved run: `make bench`."""
