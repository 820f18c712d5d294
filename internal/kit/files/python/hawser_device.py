#!/usr/bin/env python3
"""One unit: enrols over EST, connects with mutual TLS, sends, listens, renews.

Made by `hawser device kit`. It is a sketch to build on, with a stock client
(Paho) and Python's own TLS. Nothing in this folder is secret. The unit's
enrolment code comes in a file at run time and is used once; its key is made
here, never leaves the state folder, and neither of them is ever printed.
"""

import argparse
import base64
import datetime
import http.client
import json
import os
import ssl
import sys
import threading
import time

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

import hawser_readings

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "hawser_settings.json"), encoding="utf-8") as f:
    SETTINGS = json.load(f)

MAX_ANSWER = 64 * 1024  # bytes of an answer of the enrolment door
TIMEOUT = 30  # seconds for the enrolment door
ACK_WITHIN = 30  # seconds for the answer to a reading


class Refused(Exception):
    """The server said no; trying the same again changes nothing."""


class Later(Exception):
    """The server is busy; after is when to ask again, in seconds."""

    def __init__(self, after):
        super().__init__("the server asks to come again in %d s" % after)
        self.after = after


def context(identity=None):
    """TLS that trusts the kit's root alone, and shows our certificate."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
    c.load_verify_locations(os.path.join(HERE, SETTINGS["roots"]))
    c.minimum_version = ssl.TLSVersion.TLSv1_2 if SETTINGS["oldest_tls"] == "1.2" else ssl.TLSVersion.TLSv1_3
    if identity:
        c.load_cert_chain(identity)
    return c


def write(path, data):
    """Writes a file that only we can read, whole or not at all."""
    with open(os.open(path + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + ".part", path)
    d = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(d)
    finally:
        os.close(d)


def certify(path, headers, identity, to):
    """Makes a new key, has it certified, and keeps both in one file.

    A key is used for one request only: the server refuses a key twice. When
    the answer is lost, the next try makes another one; an enrolment code is
    spent when its certificate is first used, not before."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    body = base64.b64encode(request.public_bytes(serialization.Encoding.DER))
    conn = http.client.HTTPSConnection(
        SETTINGS["enrolment_host"], SETTINGS["enrolment_port"], context=context(identity), timeout=TIMEOUT)
    try:
        conn.request("POST", path, body, {"Content-Type": "application/pkcs10", **headers})
        answer = conn.getresponse()
        text = answer.read(MAX_ANSWER + 1)
    finally:
        conn.close()
    if answer.status in (202, 429) or answer.status >= 500:
        after = answer.getheader("Retry-After", "")
        raise Later(min(int(after), 3600) if after.isdigit() else 60)
    if answer.status != 200:
        said = "".join(c if c.isprintable() else " " for c in text[:200].decode("utf-8", "replace"))
        raise Refused("the server says %d: %s" % (answer.status, said.strip()))
    if len(text) > MAX_ANSWER or not answer.getheader("Content-Type", "").startswith("application/pkcs7-mime"):
        raise Refused("the enrolment door answers with something else than certificates; check host and port")
    certificate = pkcs7.load_der_pkcs7_certificates(base64.b64decode(text))[0]
    if certificate.public_key().public_numbers() != key.public_key().public_numbers():
        raise Refused("the certificate is not for the key of this unit")
    write(to, certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


class Unit:
    def __init__(self, serial, state):
        self.serial = serial
        os.makedirs(state, mode=0o700, exist_ok=True)
        self.identity = os.path.join(state, "identity.pem")  # the certificate in use, and its key
        self.next = os.path.join(state, "identity.next.pem")  # renewed, and never used yet
        self.boot = self.count(os.path.join(state, "boot"))
        self.seq = 0
        self.refused = []
        self.try_again = 0.0  # when to renew again, after a renewal that failed

    @staticmethod
    def count(path):
        """One more than at the last start: with seq it names a reading for
        ever, and a reading sent twice is stored once. Written once a start, not
        once a reading: flash wears out."""
        try:
            with open(path, encoding="ascii") as f:
                n = int(f.read())
        except (FileNotFoundError, ValueError):
            n = int(time.time())  # lost: higher than any number of starts
        write(path, str(n + 1).encode())
        return n + 1

    def enrol(self, code):
        login = base64.b64encode(("%s:%s" % (self.serial, code)).encode()).decode()
        certify(SETTINGS["enrolment_path"], {"Authorization": "Basic " + login}, None, self.identity)

    def renew(self):
        """The old certificate stays good until the new one was used once."""
        certify(SETTINGS["renewal_path"], {}, self.identity, self.next)

    def due(self):
        """A third of its life before the certificate ends. A unit that sleeps
        past the end needs a new enrolment code."""
        if os.path.exists(self.next) or time.monotonic() < self.try_again:
            return False
        with open(self.identity, "rb") as f:
            c = x509.load_pem_x509_certificate(f.read())
        utc = datetime.timezone.utc
        end = getattr(c, "not_valid_after_utc", None) or c.not_valid_after.replace(tzinfo=utc)  # before cryptography 42
        return end - datetime.datetime.now(utc) < datetime.timedelta(days=SETTINGS["certificate_days"] / 3)

    def renew_if_due(self):
        """A renewal that fails ends nothing: the certificate is good for weeks."""
        if not self.due():
            return False
        try:
            self.renew()
        except (Refused, Later, OSError) as e:
            self.try_again = time.monotonic() + getattr(e, "after", 3600)
            say("not renewed: %s" % e)
            return False
        say("renewed")
        return True

    def connect(self):
        """Connects with the newest certificate that works."""
        if os.path.exists(self.next):
            try:
                client = self.session(self.next)
            except (OSError, Refused) as e:
                say("the renewed certificate does not work yet: %s" % e)
            else:
                os.replace(self.next, self.identity)  # its first use ended the old one
                return client
        return self.session(self.identity)

    def session(self, identity):
        made = {"client_id": "", "clean_session": True, "protocol": mqtt.MQTTv311}
        if hasattr(mqtt, "CallbackAPIVersion"):  # Paho 2
            client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1, **made)
        else:
            client = mqtt.Client(**made)
        client.tls_set_context(context(identity))
        up, listening, self.why = threading.Event(), threading.Event(), None

        def on_connect(c, _, __, code):
            self.why = code
            up.set()
            if code == 0:
                c.subscribe([(t, 1) for t in SETTINGS["subscribe"]])

        client.on_connect = on_connect
        client.on_subscribe = lambda *_: listening.set()
        client.on_message = self.heard
        client.connect(SETTINGS["host"], SETTINGS["mqtt_port"], keepalive=SETTINGS["keep_alive_seconds"])
        client.loop_start()
        if not up.wait(TIMEOUT) or self.why != 0 or not listening.wait(TIMEOUT):
            client.loop_stop()
            raise Refused("no session: %s" % ("no answer" if self.why is None else mqtt.connack_string(self.why)))
        return client

    def heard(self, client, _, message):
        """Runs in the client's own thread."""
        if message.topic == "refused":
            try:
                r = json.loads(message.payload)
                text = "%s: %s" % (r.get("reason"), r.get("text", ""))
            except ValueError:
                text = "the server refused something and cannot be understood"
            self.refused.append(text)
            say("refused: " + text)
            return
        say("message on %s, %d bytes" % (message.topic, len(message.payload)))
        if message.topic == "config":
            # Set it here: only a higher version than the last one, within bounds of
            # the unit's own; keep version and values where they outlive a restart.
            try:
                asked = json.loads(message.payload)
                refused = {str(name): "this sketch sets nothing" for name in asked["settings"]}
                report = {"settings": {"version": int(asked["version"]), "values": {}, "refused": refused}}
            except (ValueError, KeyError, TypeError, RecursionError):
                say("settings that cannot be understood")
                return
            client.publish("state", json.dumps(report, separators=(",", ":")), qos=1)
            return
        topic = message.topic.split("/")
        if len(topic) == 3 and topic[0] == "command":
            # Do it here: once, by its number, within bounds of the unit's own.
            answer = '{"outcome":"refused","text":"this sketch does nothing that it is told"}'
            client.publish("command/%s/reply/%s" % (topic[1], topic[2]), answer, qos=1)

    def send(self, client, stream, values):
        self.seq += 1
        message = {"boot": self.boot, "seq": self.seq, **values}
        now = time.time()
        if now > 1735689600:  # a clock from before 2025 is none: the server takes the time of receipt
            message["t"] = int(now * 1000)
        payload = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
        if len(payload) > stream["max_bytes"]:
            raise ValueError("a message of %d bytes to %s, which takes %d" % (len(payload), stream["name"], stream["max_bytes"]))
        info = client.publish(stream["topic"], payload, qos=1)
        info.wait_for_publish(ACK_WITHIN)
        if not info.is_published():
            raise OSError("no answer to a reading within %d s: keep it and send it again, with the same boot and seq" % ACK_WITHIN)
        say("acknowledged: %s" % stream["name"])


def say(text):
    print(text, flush=True)


def main():
    a = argparse.ArgumentParser(description="One unit of %s." % SETTINGS["product"])
    a.add_argument("--serial", required=True)
    a.add_argument("--state", default="state", help="a folder that only this unit can read")
    a.add_argument("--code-file", help="the unit's enrolment code, until it is enrolled")
    a.add_argument("--once", action="store_true", help="one message to each stream, and stop")
    a.add_argument("--renew-now", action="store_true", help="renew the certificate first")
    o = a.parse_args()
    unit = Unit(o.serial, o.state)
    if not os.path.exists(unit.identity):
        if not o.code_file:
            sys.exit("not enrolled: give --code-file with the code that `hawser device add` printed")
        with open(o.code_file, encoding="ascii") as f:
            unit.enrol(f.read().strip())
        say("enrolled")
    if o.renew_now:
        unit.renew()
        say("renewed")
    unit.renew_if_due()
    client = unit.connect()
    say("connected")
    due = {s["name"]: 0.0 for s in SETTINGS["streams"]}
    while True:
        for stream in SETTINGS["streams"]:
            if time.monotonic() >= due[stream["name"]]:
                unit.send(client, stream, hawser_readings.STREAMS[stream["name"]]())
                due[stream["name"]] = time.monotonic() + stream["every_ms"] / 1000
        if o.once:
            time.sleep(1)  # for what is refused
            break
        if unit.renew_if_due():
            client.disconnect()
            client.loop_stop()
            client = unit.connect()
        time.sleep(max(0.01, min(due.values(), default=0) - time.monotonic()))
    client.disconnect()
    client.loop_stop()
    return 3 if unit.refused else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, Later, OSError) as e:
        sys.exit("%s: %s" % (type(e).__name__, e))
