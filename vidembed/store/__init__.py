"""Where vectors rest: Parquet, the record, and Milvus, derived from it."""
