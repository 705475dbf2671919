"""Decode: from a video to the frames of its clips, upright RGB uint8 with their true times.

Knows nothing of encoders beyond the `ClipSpec` it is given. decord and PyAV live here only.
"""
