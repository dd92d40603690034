"""The engine's own process: its loop, its messages, and the front's supervision of it."""
