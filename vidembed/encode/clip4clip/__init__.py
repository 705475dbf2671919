"""CLIP4Clip, and any CLIP as mean-pooled frames (arXiv 2104.08860)."""
