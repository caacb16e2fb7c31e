"""Grades for scores."""
