"""Model files, sessions, the predictor and the registry of versions. May import records and settings; knows no HTTP."""
