"""Judges report documents by the published schema, with the `jsonschema` package alone.

    judge_documents.py SCHEMA DOCUMENTS

DOCUMENTS holds one JSON text a line. Checks the schema against the metaschema of the draft that it names, then writes a
line of JSON for each document: null where it is valid, else what the validator has against it.
"""

import json
import sys

import jsonschema

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def main(schema_file, documents_file):
    with open(schema_file, encoding="utf-8") as file:
        schema = json.load(file)
    assert schema["$schema"] == DRAFT, schema["$schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    with open(documents_file, encoding="utf-8", newline="\n") as documents:
        for document in documents:
            error = next(validator.iter_errors(json.loads(document)), None)
            print(json.dumps(error and f"{error.json_path}: {error.message}"[:200]))


main(*sys.argv[1:])
