"""Perception Encoder, core models (Bolya et al., arXiv 2504.13181)."""
