"""Responder turns an alert into a proven recovery, or puts a person on the line."""

__version__ = "0.1.0"
