"""Reads checkpoints: GGUF files, Hugging Face directories and hub ids."""
