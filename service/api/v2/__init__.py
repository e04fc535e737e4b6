"""The Open Inference Protocol, version 2, as KServe, Triton and MLServer speak it: tensors in, tensors out."""

from service.api.v2.routes import router

__all__ = ["router"]
