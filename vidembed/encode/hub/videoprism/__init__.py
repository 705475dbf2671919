"""VideoPrism's video-text model, LvT (arXiv 2402.13217)."""
