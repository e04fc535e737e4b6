"""The offline trainer: CSV -> Keras network -> ONNX file. The service never imports it."""
