#!/usr/bin/env python3
"""A small reader of a Hawser stream, to copy: keeps what it is given in one
SQLite file, erases what it is ordered to, and signs its receipts.

    reader.py --door iot.example:8445 --product aria-thermostat \\
        --cert app-backend.pem --key app-backend.key --root root.pem --file readings.db

It needs Python 3.9 and the openssl command. docs/readers.md says what the
lines mean.
"""

import argparse
import base64
import http.client
import json
import sqlite3
import ssl
import subprocess
import tempfile
import time
import urllib.parse


def open_file(path):
    db = sqlite3.connect(path)
    db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
    db.executescript("""
        CREATE TABLE IF NOT EXISTS reading (subject TEXT, reading TEXT, epoch TEXT, t TEXT, content TEXT,
            PRIMARY KEY (subject, reading, epoch));
        CREATE INDEX IF NOT EXISTS reading_epoch ON reading (epoch);
        CREATE TABLE IF NOT EXISTS gone (subject TEXT PRIMARY KEY);
        CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), cursor TEXT);
        CREATE TABLE IF NOT EXISTS receipt (id TEXT PRIMARY KEY, body TEXT);
    """)
    return db


class Reader:
    def __init__(self, a):
        self.a = a
        tls = ssl.create_default_context(cafile=a.root)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.load_cert_chain(a.cert, a.key)
        host, _, port = a.door.rpartition(":")
        self.http = http.client.HTTPSConnection(host, int(port), context=tls, timeout=90)
        self.db = open_file(a.file)

    def call(self, method, path, body=None, headers=None):
        self.http.request(method, path, body, headers or {})
        answer = self.http.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content.decode()}")
        return content.decode()

    def page(self, wait):
        """Takes one page: all of it and its cursor, in one transaction."""
        row = self.db.execute("SELECT cursor FROM place").fetchone()
        query = {"wait": wait}
        if row:
            query["cursor"] = row[0]
        text = self.call("GET", f"/service/v1/stream/{self.a.product}?" + urllib.parse.urlencode(query))
        with self.db:
            for line in text.splitlines():
                self.take(json.loads(line))
        for order, body in self.db.execute("SELECT id, body FROM receipt").fetchall():
            self.call("POST", "/service/v1/receipts", body, {"Hawser-Signature": self.sign(body)})
            with self.db:
                self.db.execute("DELETE FROM receipt WHERE id = ?", (order,))

    def take(self, x):
        db = self.db
        if x["type"] == "reading":
            # The same line may come twice; after an order to erase, none counts.
            if not db.execute("SELECT 1 FROM gone WHERE subject = ?", (x["subject"],)).fetchone():
                db.execute("INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?, ?)",
                           (x["subject"], x["reading"], x["epoch"], x["t"], json.dumps(x["values"])))
        elif x["type"] == "order":
            answer = {"order": x["order"]}
            if x["do"] == "erase":
                db.execute("INSERT OR IGNORE INTO gone VALUES (?)", (x["subject"],))
                db.execute("DELETE FROM reading WHERE subject = ?", (x["subject"],))
                answer["done"] = True
            elif x["do"] == "expire":
                db.execute("DELETE FROM reading WHERE epoch = ?", (x["epoch"],))
                answer["done"] = True
            else:  # tell
                found = db.execute("SELECT 1 FROM reading WHERE subject = ? LIMIT 1", (x["subject"],)).fetchone()
                answer["held"] = found is not None
            db.execute("INSERT OR IGNORE INTO receipt VALUES (?, ?)", (x["order"], json.dumps(answer)))
        elif x["type"] == "gap":
            print(f"lost at most {x.get('at_most', 0)} parts of readings from {x['from']} to {x['to']}: {x['why']}")
        elif x["type"] == "cursor":
            db.execute("INSERT OR REPLACE INTO place VALUES (1, ?)", (x["cursor"],))

    def sign(self, body):
        with tempfile.NamedTemporaryFile() as f:
            f.write(body.encode())
            f.flush()
            made = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.a.key, f.name], check=True, capture_output=True)
        return base64.b64encode(made.stdout).decode()


def main():
    p = argparse.ArgumentParser(description="keep what a Hawser stream gives, and obey its orders")
    for name in ("door", "product", "cert", "key", "root", "file"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--once", action="store_true", help="take one page and end")
    a = p.parse_args()
    if a.once:
        Reader(a).page(0)
        return
    while True:
        try:
            r = Reader(a)
            while True:
                r.page(25)
        except (OSError, http.client.HTTPException, RuntimeError) as e:
            print(f"{e}; again in 5 s")
            time.sleep(5)


if __name__ == "__main__":
    main()
