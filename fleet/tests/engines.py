#!/usr/bin/env python3
"""Answers the questions of sql/ over a lake with DuckDB and with ClickHouse (chdb), and holds the rows to each other.

    engines.py DATA [--ledger FILE] [QUESTION...]

With a ledger of `ondat-telemetry-fleet gen`, the counts of the question `fleet` are its counts.
"""

import argparse
import decimal
import json
import pathlib
import sys

import chdb.session
import duckdb

SQL = pathlib.Path(__file__).resolve().parent.parent / "sql"
TABLES = ["reports", "nodes", "volumes", "api_calls", "checks", "crashes"]
VIEW = "cluster_days"
# A query of ClickHouse that does as the standard says: what is not joined is null, and the day is a column of the files.
SETTINGS = "SET join_use_nulls = 1, use_hive_partitioning = 0"


def plain(value):
    """A value as both engines can have it."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float, decimal.Decimal)):
        number = decimal.Decimal(str(value))
        return int(number) if number == number.to_integral_value() else float(number)
    return str(value)


def rows_of_duckdb(connection, sql):
    result = connection.execute(sql)
    names = [column[0] for column in result.description]
    return [dict(zip(names, map(plain, row))) for row in result.fetchall()]


def rows_of_clickhouse(session, sql):
    text = session.query(sql, "JSONEachRow").bytes().decode()
    return [{name: plain(value) for name, value in json.loads(line).items()} for line in text.splitlines()]


def begin(data):
    lake = data / "lake"
    connection = duckdb.connect()
    session = chdb.session.Session()
    session.query("CREATE DATABASE fleet ENGINE = Atomic")
    session.query("USE fleet")
    session.query(SETTINGS)
    for table in TABLES:
        files = f"{lake}/{table}/*/*.parquet"
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{files}', hive_partitioning = false)")
        session.query(f"CREATE VIEW fleet.{table} AS SELECT * FROM file('{files}', Parquet)")
    view = (SQL / f"{VIEW}.sql").read_text()
    connection.execute(f"CREATE VIEW {VIEW} AS {view}")
    session.query(f"CREATE VIEW fleet.{VIEW} AS {view}")
    return connection, session


def compare(question, duck, click):
    """Order is compared too, but not of what is equal in all that the question orders by."""
    if duck == click:
        return
    for number, (one, other) in enumerate(zip(duck, click)):
        if one != other:
            sys.exit(f"engines.py: {question}: row {number} is {one} in DuckDB and {other} in ClickHouse")
    sys.exit(f"engines.py: {question}: {len(duck)} rows in DuckDB and {len(click)} in ClickHouse")


def compare_with_ledger(rows, path):
    """By day, and confirmed or not."""
    expected = {}
    for line in path.read_text().splitlines():
        line = json.loads(line)
        if line["fate"] == "counted":
            of_day = expected.setdefault(line["day"], [0, 0, 0])
            for at, count in enumerate([1, line["nodes"], line["volumes"]]):
                of_day[at] += count
    found = {}
    for row in rows:
        of_day = found.setdefault(row["day"], [0, 0, 0])
        for at, name in enumerate(["clusters", "nodes", "volumes"]):
            of_day[at] += row[name]
    if found != expected:
        days = [day for day in sorted(found.keys() | expected.keys()) if found.get(day) != expected.get(day)]
        sys.exit(f"engines.py: fleet: {days[0]} has {found.get(days[0])}, the ledger {expected.get(days[0])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--ledger", type=pathlib.Path)
    parser.add_argument("questions", nargs="*")
    arguments = parser.parse_intermixed_args()
    questions = arguments.questions or sorted(path.stem for path in SQL.glob("*.sql") if path.stem != VIEW)
    connection, session = begin(arguments.data)
    for question in questions:
        sql = (SQL / f"{question}.sql").read_text()
        duck, click = rows_of_duckdb(connection, sql), rows_of_clickhouse(session, sql)
        compare(question, duck, click)
        if not duck:
            sys.exit(f"engines.py: {question}: no row, so nothing is compared")
        if question == "fleet" and arguments.ledger:
            compare_with_ledger(duck, arguments.ledger)
        print(f"{question}: {len(duck)} rows, the same in both")


if __name__ == "__main__":
    main()
