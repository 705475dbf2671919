"""MViT (arXiv 2104.11227) and MViTv2 (arXiv 2112.01526) of Kinetics as video encoders."""
