"""Self-contained HTML pages, readable without a network."""
