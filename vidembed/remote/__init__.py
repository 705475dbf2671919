"""How bytes come from elsewhere: which file system, which connections, what is tried again."""
