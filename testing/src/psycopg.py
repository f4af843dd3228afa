"""Logs in once for each connection string on standard input, and says how it went in one line."""

import sys

import psycopg

query = sys.argv[1]
for line in sys.stdin:
    try:
        with psycopg.connect(line.strip(), autocommit=True) as connection:
            row = connection.execute(query).fetchone()
        print("ok", *row, flush=True)
    except psycopg.OperationalError as error:
        print("error", " ".join(str(error).split()), flush=True)
