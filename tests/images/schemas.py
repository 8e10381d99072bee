"""Writes the JSON Schemas that kubeconform wants, from the OpenAPI document of Kubernetes' own source.

schemas.py SWAGGER_JSON FOLDER

An object has no other members than those it lists, as with kubeconform's --strict schemas."""

import json
import pathlib
import sys

REFERENCE = "#/definitions/"
# Kubernetes' own code reads these from strings and from numbers.
LOOSE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def strict(node):
    """The schema, closed to members that it does not know, and open to null where a member is optional."""
    if isinstance(node, list):
        return [strict(part) for part in node]
    if not isinstance(node, dict):
        return node
    node = {key: strict(value) for key, value in node.items() if key not in ("description", "format")}
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
        node["additionalProperties"] = False
    return node


def references(node):
    if isinstance(node, list):
        for part in node:
            yield from references(part)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].removeprefix(REFERENCE)
        for part in node.values():
            yield from references(part)


def reachable(definitions, first):
    found, waiting = set(), [first]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(references(definitions[name]))
    return {name: definitions[name] for name in found}


def main():
    source, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    swagger = json.load(open(source, encoding="utf-8"))
    kinds = {name: body.get("x-kubernetes-group-version-kind", []) for name, body in swagger["definitions"].items()}
    definitions = {name: LOOSE.get(name) or strict(body) for name, body in swagger["definitions"].items()}
    for name, kinds_of in kinds.items():
        # Options and lists of events belong to many groups.
        if len(kinds_of) != 1:
            continue
        kind = kinds_of[0]
        group = kind["group"].split(".")[0]
        suffix = f"-{group}-{kind['version']}" if group else f"-{kind['version']}"
        schema = {"$ref": REFERENCE + name, "definitions": reachable(definitions, name)}
        schema["definitions"][name]["properties"]["kind"] = {"enum": [kind["kind"]]}
        (folder / f"{kind['kind'].lower()}{suffix}.json").write_text(json.dumps(schema), encoding="utf-8")


main()
