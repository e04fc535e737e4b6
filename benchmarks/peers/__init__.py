"""The servers that ours is compared with, one module each, configured by their own documentation."""
