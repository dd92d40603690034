"""Model architectures, each about a hundred lines over `artesian.ops`."""
