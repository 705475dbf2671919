"""All tests, in two processes at once: `python -m tests [options of pytest]`.

Those with servers (Ray, Milvus, S3) wait much and are shown as they run; the others compute, and
are shown when they are done. They must not share a process anyway: Ray opens files and starts
children when it likes, which some of the others count.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

SERVERS = "ray or milvus or s3"
_NOTHING_CHOSEN = 5


def main() -> int:
    command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    with tempfile.TemporaryFile() as log:
        others = subprocess.Popen(
            [*command, "-m", f"not ({SERVERS})", "-p", "no:cacheprovider"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            servers = subprocess.run([*command, "-m", SERVERS], check=False).returncode
            code = others.wait()
        except BaseException:
            others.kill()
            others.wait()
            raise
        log.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(log.read())
    found = {servers, code} - {_NOTHING_CHOSEN}
    return max(found, default=_NOTHING_CHOSEN)


if __name__ == "__main__":
    sys.exit(main())
