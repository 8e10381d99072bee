"""Puts crash events before Sentry's own code: the published schema of events, and Relay's normalisation and scrubbing.

    judge_crashes.py EVENTS

EVENTS holds one event a line as JSON. Writes a line of JSON for each:
  schema       what the schema has against it, else null
  normalised   the event as Relay passes it on when it came from ADDRESS, by a USER_AGENT that says much
  scrubbed     the same after the scrubbing that projects begin with
  geo          what is left of a place derived from the address, by selector of a rule that removes anything
"""

import importlib.metadata
import json
import sys

import jsonschema
from sentry_relay.processing import StoreNormalizer, convert_datascrubbing_config, pii_strip_event, validate_pii_config

ADDRESS = "203.0.113.7"
USER_AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 16_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1"
SCRUBBING = {"scrubData": True, "scrubDefaults": True, "scrubIpAddresses": True, "sensitiveFields": [], "excludeFields": []}
SELECTORS = ["$user.geo", "$user.geo.**"]


def published_schema():
    # Bugsink brings it along.
    (path,) = [file for file in importlib.metadata.files("bugsink") if file.name == "event.schema.json"]
    with open(path.locate(), encoding="utf-8") as file:
        schema = json.load(file)
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    return validator(schema)


def normalised(event):
    normalizer = StoreNormalizer(
        project_id=1, key_id="1", protocol_version="7", client="ondat-telemetry/0.1.0", client_ip=ADDRESS,
        user_agent=USER_AGENT, received_at=event["timestamp"], sent_at=None, max_secs_in_future=60,
        max_secs_in_past=30 * 86400, enable_trimming=True, is_renormalize=False, remove_other=True,
        normalize_user_agent=True)
    return normalizer.normalize_event(event)


def without_geo(event, selector):
    rule = {"rules": {}, "applications": {selector: ["@anything:remove"]}}
    validate_pii_config(json.dumps(rule))
    place = {"city": "Melbourne", "country_code": "AU", "region": "Australia"}
    left = pii_strip_event(rule, {**event, "user": {"geo": place}}).get("user", {}).get("geo") or {}
    return {name: value for name, value in left.items() if value is not None}


def main(events_file):
    schema, scrubbing = published_schema(), convert_datascrubbing_config(SCRUBBING)
    with open(events_file, encoding="utf-8") as events:
        for event in map(json.loads, events):
            error = next(schema.iter_errors(event), None)
            passed_on = normalised(event)
            print(json.dumps({
                "schema": error and f"{error.json_path}: {error.message}",
                "normalised": passed_on,
                "scrubbed": pii_strip_event(scrubbing, passed_on),
                "geo": {selector: without_geo(event, selector) for selector in SELECTORS},
            }))


main(*sys.argv[1:])
