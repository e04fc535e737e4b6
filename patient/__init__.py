"""The contract between training and serving: record, encoding, CSV nulls, model file. Imports neither of them."""
