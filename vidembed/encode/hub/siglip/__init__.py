"""SigLIP and SigLIP 2 as mean-pooled frames (arXiv 2303.15343, 2502.14786)."""
