"""Adapters: each runs under the Python of one engine and answers over pipes."""
