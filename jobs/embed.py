"""`ray job submit --working-dir . -- python jobs/embed.py …`: the options of `vidembed embed`."""

from vidembed.cli import run_job

if __name__ == "__main__":
    run_job("embed")
