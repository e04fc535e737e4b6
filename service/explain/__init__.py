"""Explain predictions: Shapley values, counterfactuals and their texts. May import records and model; knows no HTTP."""
