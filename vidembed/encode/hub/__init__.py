"""Encoders whose network is transformers': a Hugging Face folder, or its hub id, is the weights."""
