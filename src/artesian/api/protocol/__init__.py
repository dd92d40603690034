"""What goes over HTTP: OpenAI's requests and responses, and what this server adds to them."""
