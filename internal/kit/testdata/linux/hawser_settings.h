/* Aria Thermostat: where units connect, and within which limits they send. Made
 * by `hawser device kit` from version 3 of the declaration. Nothing here is
 * secret, and all of it is the same for every unit. */
#ifndef HAWSER_SETTINGS_H
#define HAWSER_SETTINGS_H

#define HAWSER_PRODUCT "aria-thermostat"
#define HAWSER_DECLARATION "6caf2374633be9b87016f8ac9bdfae121c46a1c0c9375d6b7ea784c10b3c717c"
#define HAWSER_ENVIRONMENT "test"

/* MQTT over mutual TLS. */
#define HAWSER_HOST "iot.northwind.example"
#define HAWSER_MQTT_PORT 8883

/* Enrolment over Secure Transport (RFC 7030). */
#define HAWSER_EST_HOST "iot.northwind.example"
#define HAWSER_EST_PORT 8443
#define HAWSER_EST_ENROL "/.well-known/est/simpleenroll"
#define HAWSER_EST_RENEW "/.well-known/est/simplereenroll"

/* 1 when the declaration lets units speak TLS 1.2; otherwise only TLS 1.3. */
#define HAWSER_TLS12 0

/* Who tells the time. */
#define HAWSER_NTP_HOST "ntp.northwind.example"

/* Seconds of silence: longer than the usual pause between two readings, so that
 * no ping is sent, and shorter than what home routers forgive. */
#define HAWSER_KEEP_ALIVE 120

/* A certificate's life. Renew when two thirds of it are over. */
#define HAWSER_CERTIFICATE_DAYS 30

/* The largest message of any stream, in bytes. */
#define HAWSER_MAX_MESSAGE 512

/* What a unit may subscribe to. */
#define HAWSER_TOPICS { "refused", "config", "update", "notice", "command/#" }
#define HAWSER_TOPIC_COUNT 5

/* What the server's certificate chain ends in: the only authority to trust. The
 * server sends 1048 bytes of certificates. */
#define HAWSER_ROOTS \
    "-----BEGIN CERTIFICATE-----\012" \
    "bm90IGEgY2VydGlmaWNhdGU7IG9ubHkgaXRzIHBsYWNlIG5vdCBhIGNlcnRpZmlj\012" \
    "YXRlOyBvbmx5IGl0cyBwbGFjZSBub3QgYSBjZXJ0aWZpY2F0ZTsgb25seSBpdHMg\012" \
    "cGxhY2Ugbm90IGEgY2VydGlmaWNhdGU7IG9ubHkgaXRzIHBsYWNlIG5vdCBhIGNl\012" \
    "cnRpZmljYXRlOyBvbmx5IGl0cyBwbGFjZSBub3QgYSBjZXJ0aWZpY2F0ZTsgb25s\012" \
    "eSBpdHMgcGxhY2Ug\012" \
    "-----END CERTIFICATE-----\012" \
    ""

#endif
