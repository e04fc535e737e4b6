"""The HTTP service: an ONNX file in, probabilities out. It never imports the trainer, nor TensorFlow."""
