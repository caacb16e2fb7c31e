"""Training: a command a model, each of which writes the model and its metrics."""
