"""Decoders of JSON records, their errors, and result types. May import patient alone; knows neither HTTP nor ONNX Runtime."""
