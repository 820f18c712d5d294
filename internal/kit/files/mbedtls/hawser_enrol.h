/* Enrolment and renewal over EST (RFC 7030) with Mbed TLS 2.28 or 3.2 and later:
 * what ESP-IDF 4 and 5, Zephyr and the ESP32 core of Arduino have. It opens no
 * socket and writes no flash: the platform does. The functions block, need
 * about 5 KB of stack and, while they run, 40 KB of heap (Mbed TLS's buffers;
 * less with MBEDTLS_SSL_IN_CONTENT_LEN at 4096). */
#ifndef HAWSER_ENROL_H
#define HAWSER_ENROL_H

#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    HAWSER_OK = 0,
    HAWSER_E_REFUSED = 1, /* the server said no: trying the same again changes nothing */
    HAWSER_E_LATER = 2,   /* the server is busy: come again after retry_after_s */
    HAWSER_E_SERVER = 3,  /* it is not ours, or answers with something else, or not in time */
    HAWSER_E_LOCAL = 4,   /* our own trouble: memory, a buffer, random numbers */
};

#define HAWSER_KEY_PEM 320   /* bytes of a private key as PEM, with the final 0 */
#define HAWSER_CERT_PEM 2048 /* bytes of a certificate as PEM, with the final 0 */

/* What the platform gives. */
typedef struct {
    /* A TCP connection, and its functions as mbedtls_ssl_set_bio takes them;
     * recv gives up after its last argument, in milliseconds. */
    void *socket;
    mbedtls_ssl_send_t *send;
    mbedtls_ssl_recv_timeout_t *recv;
    /* Milliseconds since some moment; may wrap. */
    uint32_t (*now_ms)(void);
    /* Good random numbers: CTR-DRBG over the chip's source. On an ESP32 they are
     * good only while its radio is on. */
    int (*random)(void *, unsigned char *, size_t);
    void *random_ctx;
} hawser_io;

typedef struct {
    int status;             /* of HTTP; 0: there was no answer */
    unsigned retry_after_s; /* at most an hour */
    char said[160];         /* what the server says, printable; fit for a log */
    int tls;                /* what Mbed TLS says, 0 or negative */
} hawser_answer;

/* Makes a key on the curve P-256. It never leaves the unit; keep it where only
 * the firmware reads it (encrypted NVS, a secure element), and print it never. */
int hawser_key_new(const hawser_io *io, char *pem, size_t size);

/* Has a key certified with the unit's enrolment code. io is connected to
 * HAWSER_EST_HOST, HAWSER_EST_PORT, and is used for this one call. A key is for
 * one request only; when the answer is lost, make another. The code is spent
 * when the certificate is first used, not before. */
int hawser_enrol(const hawser_io *io, const char *serial, const char *code, const char *key_pem, char *cert_pem, size_t size, hawser_answer *a);

/* The same for a new key, with the present certificate, which stays good until
 * the new one was used once: keep both until then. */
int hawser_renew(const hawser_io *io, const char *cert_pem, const char *key_pem, const char *new_key_pem, char *new_cert_pem, size_t size, hawser_answer *a);

/* Seconds until the certificate ends; negative when it ended, INT64_MIN when it
 * cannot be read. now is Unix time. */
int64_t hawser_certificate_left(const char *cert_pem, int64_t now);

/* TLS to one of our doors, for a client that brings none of its own. */
typedef struct {
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config conf;
    mbedtls_x509_crt roots, own;
    mbedtls_pk_context key;
    const hawser_io *io;
    uint32_t until;
} hawser_tls;

/* Handshakes within limit_ms, with a certificate or, where NULL, without one.
 * Gives 0 or an error of Mbed TLS; hawser_tls_close either way. */
int hawser_tls_open(hawser_tls *t, const hawser_io *io, const char *host, const char *cert_pem, const char *key_pem, uint32_t limit_ms);
/* Gives all later reads and writes together this long. */
void hawser_tls_limit(hawser_tls *t, uint32_t limit_ms);
int hawser_tls_write(hawser_tls *t, const unsigned char *p, size_t n);
/* At least one byte; 0 at the end; an error of Mbed TLS. */
int hawser_tls_read(hawser_tls *t, unsigned char *p, size_t n);
void hawser_tls_close(hawser_tls *t);

/* The first certificate of a certs-only PKCS#7 in DER: where it lies in it.
 * False when there is none or anything does not add up. */
bool hawser_pkcs7_first(const unsigned char *der, size_t size, const unsigned char **cert, size_t *cert_size);

#ifdef __cplusplus
}
#endif
#endif
