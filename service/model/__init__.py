"""The model: its file, its session on a device, the predictor, and the registry of versions. May import records and settings."""
