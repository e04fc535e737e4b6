"""The Open Inference Protocol v2, which KServe, Triton and MLServer use: tensors in, tensors out."""
