"""One file for each way in."""
