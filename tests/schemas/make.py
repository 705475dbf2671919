"""Makes kubernetes.json: `python tests/schemas/make.py FOLDER`, with the folder of a version's
strict schemas in the package kubernetes-validate of PyPI. See README.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_CORE = "io.k8s.api.core.v1"
ROOTS = (
    f"{_CORE}.PodTemplateSpec",
    f"{_CORE}.Service",
    f"{_CORE}.Namespace",
    f"{_CORE}.Secret",
    f"{_CORE}.ConfigMap",
    f"{_CORE}.ServiceAccount",
    "io.k8s.api.batch.v1.CronJob",
    "io.k8s.api.rbac.v1.Role",
    "io.k8s.api.rbac.v1.RoleBinding",
)
_LEFT_OUT = ("description", "title")


def lean(schema: Any) -> Any:
    """Without prose and without what only a server reads; references are to this file."""
    if isinstance(schema, list):
        return [lean(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {}
    for key, value in schema.items():
        if key == "$ref":
            found[key] = "#/$defs/" + value.rpartition("/")[2]
        elif key == "properties":
            found[key] = {name: lean(part) for name, part in value.items()}
        elif key not in _LEFT_OUT and not key.startswith("x-kubernetes-"):
            found[key] = lean(value)
    return found


def names(schema: Any) -> set[str]:
    """The definitions that a schema refers to."""
    if isinstance(schema, list):
        return set().union(*map(names, schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    found = set().union(*(names(value) for value in schema.values())) if schema else set()
    reference = schema.get("$ref")
    return found | {reference.rpartition("/")[2]} if isinstance(reference, str) else found


def main(folder: Path) -> None:
    everything = json.loads((folder / "_definitions.json").read_text())
    everything = everything.get("$defs") or everything["definitions"]
    wanted, taken = list(ROOTS), {}
    while wanted:
        name = wanted.pop()
        if name not in taken:
            taken[name] = lean(everything[name])
            wanted += names(taken[name])
    place = Path(__file__).with_name("kubernetes.json")
    whole = {"$id": "kubernetes.json", "$defs": dict(sorted(taken.items()))}
    place.write_text(json.dumps(whole, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
