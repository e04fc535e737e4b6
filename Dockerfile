# From one file: `trainer` (TensorFlow, CUDA 12) and `service` (ONNX Runtime, CUDA 13), which share no layer above the base
# because the two want different CUDA libraries, and `proxy`. The build arguments choose the locks with or without CUDA.
FROM python:3.12-slim-bookworm AS base
# HOME: whatever a library keeps for itself lies in the one folder that a read-only container can write.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
# They belong to the user, so that volumes mounted there do too.
RUN useradd --uid 10001 --no-create-home heart && install --directory --owner heart /models /spool

# Wheels only, so that no compiler is needed; pip stays outside the environment that it fills.
FROM base AS empty
RUN python -m venv --without-pip /venv
ENV INSTALL="pip --python /venv/bin/python install --no-cache-dir --only-binary :all: --require-hashes --requirement"
ENV CAPI="/venv/lib/python3*/site-packages/onnxruntime/capi"

# TensorFlow's GPU is CUDA 12's; ONNX Runtime only checks the export here, on the CPU.
FROM empty AS trainer-packages
ARG TRAINER_LOCK=trainer-cuda
COPY locks/${TRAINER_LOCK}.txt lock.txt
RUN $INSTALL lock.txt && rm -f $CAPI/libonnxruntime_providers_cuda.so $CAPI/libonnxruntime_providers_tensorrt.so

# 285 MB of CUDA kernels are of no use without the CUDA libraries.
FROM empty AS service-packages
ARG SERVICE_LOCK=service-cuda
COPY locks/${SERVICE_LOCK}.txt lock.txt
RUN $INSTALL lock.txt && rm -f $CAPI/libonnxruntime_providers_tensorrt.so \
    && case $SERVICE_LOCK in *-cuda) ;; *) rm -f $CAPI/libonnxruntime_providers_cuda.so ;; esac

FROM base AS trainer
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="heart-trainer" \
      org.opencontainers.image.description="Fits the network and writes it as a version into a models folder" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=trainer-packages /venv /venv
COPY patient patient
COPY trainer trainer
COPY heart.py .
USER 10001
ENTRYPOINT ["/venv/bin/python", "-m", "trainer"]
CMD ["fit"]

FROM base AS service
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="heart-service" \
      org.opencontainers.image.description="The probability of heart disease from 13 measurements, over HTTP" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=service-packages /venv /venv
COPY patient patient
COPY service service
COPY heart.py .
USER 10001
EXPOSE 8000
# Not urllib, which would ask a proxy that the environment names.
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s CMD ["/venv/bin/python", "-ISc", \
    "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 8000); c.request('GET', '/health/ready'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["/venv/bin/python", "-m", "service"]

FROM haproxy:3.2.6 AS proxy
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="heart-proxy" \
      org.opencontainers.image.description="Terminates TLS and shares requests among the services that are ready" \
      org.opencontainers.image.version="${VERSION}"
USER 0
# openssl comes with the base's certificates; without it neither the certificate nor the health check could be made.
RUN openssl version && install --directory --owner 10001 /certificate
COPY deploy/proxy /etc/heart
USER 10001
EXPOSE 8443
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["openssl", "s_client", "-brief", "-connect", "127.0.0.1:8443"]
ENTRYPOINT ["haproxy", "-f", "/etc/heart/haproxy.cfg"]
