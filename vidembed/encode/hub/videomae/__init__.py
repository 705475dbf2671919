"""VideoMAE, video only (arXiv 2203.12602)."""
