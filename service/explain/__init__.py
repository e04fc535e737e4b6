"""Explanations: Shapley values, counterfactuals, and their words. May import records and model."""
