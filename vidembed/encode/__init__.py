"""Encode: from the frames of clips, and from texts, to vectors.

torch and transformers live here only. Needs neither ray, pymilvus nor a decoder.
"""
