"""Workers with roles around one memory pool: who serves what, and what becomes of the others."""
