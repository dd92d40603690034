"""The engine: scheduling, batches, sampling, and `LLM`."""
