# Build context: the platform's root folder.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app

# Compiled files name the time of their sources, unless the build's time is set: with it, an image that is made anew holds the same
# files, and trains the same version of a model.
ARG SOURCE_DATE_EPOCH=0

# Dependencies come first: an edit of the code does not install them again.
COPY backend/requirements/training.txt requirements.txt
RUN python -m pip install --no-cache-dir -r requirements.txt

COPY backend/__init__.py backend/__init__.py
COPY backend/core backend/core
COPY backend/training backend/training

# A number, so that Kubernetes can check runAsNonRoot without reading /etc/passwd.
USER 10001:10001

# Tables are mounted, not copied: an image does not age with its data. One model by
# `--entrypoint python IMAGE -m backend.training.churn ...`, all of them by default.
ENTRYPOINT ["python", "-m", "backend.training"]
CMD ["--data-dir", "/data", "--out", "/models"]
