"""The commands of the trainer: options.py declares their options; one module per command runs it."""
