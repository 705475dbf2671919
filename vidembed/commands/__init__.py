"""What each command prints: tables for people on standard output, one fact a line elsewhere."""
