# Build context: the platform's root folder.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app

# Dependencies come first: an edit of the code does not install them again.
COPY backend/requirements/api.txt requirements.txt
RUN python -m pip install --no-cache-dir -r requirements.txt

COPY models/churn/model.json models/churn/model.json
COPY models/clv/model.json models/clv/model.json
COPY models/segmentation/model.json models/segmentation/assignments.json models/segmentation/
COPY backend/__init__.py backend/__init__.py
COPY backend/core backend/core
COPY backend/api backend/api

# A number, so that Kubernetes can check runAsNonRoot without reading /etc/passwd.
USER 10001:10001

ENV HOST=0.0.0.0 \
    PORT=8000 \
    MODEL_DIR=/app/models

EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-m", "backend.api.probe"]

CMD ["python", "-m", "backend.api"]
