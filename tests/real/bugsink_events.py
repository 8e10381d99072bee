"""Prints what Bugsink has in its database, one event a line as JSON.

    bugsink_events.py DATABASE
"""

import json
import sqlite3
import sys

COLUMNS = "level release platform server_name sdk_name environment transaction calculated_type calculated_value data"

database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=10)
database.row_factory = sqlite3.Row
query = "SELECT {} FROM events_event ORDER BY digested_at".format(", ".join(f'"{name}"' for name in COLUMNS.split()))
for row in database.execute(query):
    event = dict(row)
    event["data"] = json.loads(event["data"])
    print(json.dumps(event))
