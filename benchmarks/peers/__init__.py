"""One file a server that ours is measured beside, each set up as its own documentation says. See serving/servers.py."""
