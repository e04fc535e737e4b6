"""The commands: one file each, flags first, then the order of the steps."""
