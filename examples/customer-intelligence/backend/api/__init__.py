"""The HTTP API that serves the models."""
