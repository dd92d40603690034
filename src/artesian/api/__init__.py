"""The HTTP front: OpenAI's API, operations, and the chat page."""
