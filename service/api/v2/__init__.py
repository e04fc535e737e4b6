"""The Open Inference Protocol v2, which KServe, Triton and MLServer use: tensors in, tensors out."""

from service.api.v2.routes import router

__all__ = ["router"]
