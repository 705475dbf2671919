"""S3D trained with MIL-NCE on HowTo100M (arXiv 1912.06430)."""
