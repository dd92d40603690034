"""Artesian serves large language models from one shared pool of memory."""

__version__ = "0.1.0"
