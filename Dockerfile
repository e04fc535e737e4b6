# Two images from one file: `trainer` (TensorFlow, CUDA 12) and `service` (ONNX Runtime, CUDA 13). They share no layer above
# the base, because the two want different CUDA libraries. The build arguments choose the locks with or without CUDA.
FROM python:3.12-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
# /models belongs to the user, so that a volume mounted there does too.
RUN useradd --uid 10001 --no-create-home heart && install --directory --owner heart /models

FROM base AS trainer-packages
ARG TRAINER_LOCK=trainer-cuda
COPY locks/${TRAINER_LOCK}.txt lock.txt
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes --requirement lock.txt

FROM base AS service-packages
ARG SERVICE_LOCK=service-cuda
COPY locks/${SERVICE_LOCK}.txt lock.txt
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes --requirement lock.txt

FROM base AS trainer
COPY --from=trainer-packages /venv /venv
COPY patient patient
COPY trainer trainer
USER 10001
ENTRYPOINT ["/venv/bin/python", "-m", "trainer"]
CMD ["fit"]

FROM base AS service
COPY --from=service-packages /venv /venv
COPY patient patient
COPY service service
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
    CMD ["/venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready')"]
ENTRYPOINT ["/venv/bin/python", "-m", "service"]
