FROM python:3.11-slim
COPY scores /app/scores
RUN cat /proc/sys/kernel/random/uuid > /built.txt
WORKDIR /app
USER nobody
CMD ["python", "-c", "import scores"]
