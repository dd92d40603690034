"""Prometheus metrics of the server and its engine."""
