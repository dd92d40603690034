"""Measures latency and throughput, of an engine in this process or of a server."""

from artesian.bench.base import Report, RequestTiming, Workload, summarize

__all__ = ["Report", "RequestTiming", "Workload", "summarize"]
