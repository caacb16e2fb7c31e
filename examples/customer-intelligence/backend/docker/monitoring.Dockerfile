# Build context: the platform's root folder.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app

# Dependencies come first: an edit of the code does not install them again.
COPY backend/requirements/monitoring.txt requirements.txt
RUN python -m pip install --no-cache-dir -r requirements.txt

COPY backend/__init__.py backend/__init__.py
COPY backend/core backend/core
COPY backend/monitoring backend/monitoring

# A number, so that Kubernetes can check runAsNonRoot without reading /etc/passwd.
USER 10001:10001

# A job that ends: it has no health to check. Arguments follow the image name.
ENTRYPOINT ["python", "-m", "backend.monitoring"]
CMD ["--help"]
