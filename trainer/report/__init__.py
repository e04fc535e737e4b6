"""The model card: text, tables and plots."""
