"""X3D (arXiv 2004.04730) of Kinetics as a video encoder."""
