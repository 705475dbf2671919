"""V-JEPA 2, video only (arXiv 2506.09985)."""
