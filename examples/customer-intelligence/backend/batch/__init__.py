"""Batch scoring: CSV in, CSV out."""
