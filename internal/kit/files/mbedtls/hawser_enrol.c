#include "hawser_enrol.h"
#include "hawser_settings.h"

#include <mbedtls/asn1.h>
#include <mbedtls/base64.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

#if !HAWSER_TLS12 && (MBEDTLS_VERSION_NUMBER < 0x03020000 || !defined(MBEDTLS_SSL_PROTO_TLS1_3))
#error "the product speaks TLS 1.3 only, and this Mbed TLS does not: switch MBEDTLS_SSL_PROTO_TLS1_3 on, or declare network: {tls: '1.2'} and make the kit again"
#endif

#define MAX_ANSWER 6144 /* bytes of an answer, headers and all; a usual one has 1.1 KB */
#define MAX_REQUEST 2048
#define TIMEOUT_MS 30000

/* ---- TLS ---- */

/* A read that ends at the latest when all of it must. */
static int recv_until(void *ctx, unsigned char *p, size_t n, uint32_t limit)
{
    hawser_tls *t = ctx;
    int32_t left = (int32_t)(t->until - t->io->now_ms());
    if (left <= 0)
        return MBEDTLS_ERR_SSL_TIMEOUT;
    return t->io->recv(t->io->socket, p, n, limit == 0 || limit > (uint32_t)left ? (uint32_t)left : limit);
}

static int send_until(void *ctx, const unsigned char *p, size_t n)
{
    hawser_tls *t = ctx;
    if ((int32_t)(t->until - t->io->now_ms()) <= 0)
        return MBEDTLS_ERR_SSL_TIMEOUT;
    return t->io->send(t->io->socket, p, n);
}

static int parse_key(mbedtls_pk_context *key, const char *pem, const hawser_io *io)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_parse_key(key, (const unsigned char *)pem, strlen(pem) + 1, NULL, 0, io->random, io->random_ctx);
#else
    (void)io;
    return mbedtls_pk_parse_key(key, (const unsigned char *)pem, strlen(pem) + 1, NULL, 0);
#endif
}

int hawser_tls_open(hawser_tls *t, const hawser_io *io, const char *host, const char *cert_pem, const char *key_pem, uint32_t limit_ms)
{
#if HAWSER_TLS12
    /* Ephemeral keys and authenticated encryption only (RFC 9325). */
    static const int suites[] = {
#if defined(MBEDTLS_SSL_PROTO_TLS1_3) && MBEDTLS_VERSION_NUMBER >= 0x03020000
        MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
        MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
        MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
#endif
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        0,
    };
#endif
    static const char roots[] = HAWSER_ROOTS;
    int rc;
    memset(t, 0, sizeof *t);
    t->io = io;
    mbedtls_ssl_init(&t->ssl);
    mbedtls_ssl_config_init(&t->conf);
    mbedtls_x509_crt_init(&t->roots);
    mbedtls_x509_crt_init(&t->own);
    mbedtls_pk_init(&t->key);
    hawser_tls_limit(t, limit_ms);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C)
    if (psa_crypto_init() != PSA_SUCCESS)
        return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
#endif
    if ((rc = mbedtls_ssl_config_defaults(&t->conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT)) != 0 ||
        (rc = mbedtls_x509_crt_parse(&t->roots, (const unsigned char *)roots, sizeof roots)) != 0)
        return rc;
    mbedtls_ssl_conf_authmode(&t->conf, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&t->conf, &t->roots, NULL);
    mbedtls_ssl_conf_rng(&t->conf, io->random, io->random_ctx);
    mbedtls_ssl_conf_read_timeout(&t->conf, 10000);
#if HAWSER_TLS12
    mbedtls_ssl_conf_ciphersuites(&t->conf, suites);
#endif
#if MBEDTLS_VERSION_NUMBER >= 0x03020000
    mbedtls_ssl_conf_min_tls_version(&t->conf, HAWSER_TLS12 ? MBEDTLS_SSL_VERSION_TLS1_2 : MBEDTLS_SSL_VERSION_TLS1_3);
#else
    mbedtls_ssl_conf_min_version(&t->conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
    if (cert_pem != NULL &&
        ((rc = mbedtls_x509_crt_parse(&t->own, (const unsigned char *)cert_pem, strlen(cert_pem) + 1)) != 0 ||
         (rc = parse_key(&t->key, key_pem, io)) != 0 || (rc = mbedtls_ssl_conf_own_cert(&t->conf, &t->own, &t->key)) != 0))
        return rc;
    if ((rc = mbedtls_ssl_setup(&t->ssl, &t->conf)) != 0 || (rc = mbedtls_ssl_set_hostname(&t->ssl, host)) != 0)
        return rc;
    mbedtls_ssl_set_bio(&t->ssl, t, send_until, NULL, recv_until);
    do {
        rc = mbedtls_ssl_handshake(&t->ssl);
    } while (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE);
    return rc;
}

void hawser_tls_limit(hawser_tls *t, uint32_t limit_ms)
{
    t->until = t->io->now_ms() + limit_ms;
}

int hawser_tls_write(hawser_tls *t, const unsigned char *p, size_t n)
{
    while (n > 0) {
        int rc = mbedtls_ssl_write(&t->ssl, p, n);
        if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE)
            continue;
        if (rc < 0)
            return rc;
        p += rc;
        n -= (size_t)rc;
    }
    return 0;
}

int hawser_tls_read(hawser_tls *t, unsigned char *p, size_t n)
{
    for (;;) {
        int rc = mbedtls_ssl_read(&t->ssl, p, n);
        if (rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
            return 0;
#if defined(MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
        if (rc == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
            continue;
#endif
        if (rc != MBEDTLS_ERR_SSL_WANT_READ && rc != MBEDTLS_ERR_SSL_WANT_WRITE)
            return rc;
    }
}

void hawser_tls_close(hawser_tls *t)
{
    (void)mbedtls_ssl_close_notify(&t->ssl); /* whoever does not hear it sees the connection end */
    mbedtls_ssl_free(&t->ssl);
    mbedtls_ssl_config_free(&t->conf);
    mbedtls_x509_crt_free(&t->own);
    mbedtls_x509_crt_free(&t->roots);
    mbedtls_pk_free(&t->key);
}

/* ---- keys and requests ---- */

int hawser_key_new(const hawser_io *io, char *pem, size_t size)
{
    mbedtls_pk_context key;
    int rc;
    mbedtls_pk_init(&key);
    if ((rc = mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY))) == 0 &&
        (rc = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key), io->random, io->random_ctx)) == 0)
        rc = mbedtls_pk_write_key_pem(&key, (unsigned char *)pem, size);
    mbedtls_pk_free(&key);
    if (rc != 0)
        mbedtls_platform_zeroize(pem, size);
    return rc == 0 ? HAWSER_OK : HAWSER_E_LOCAL;
}

/* The request as base64: it names nobody, the server knows the unit. */
static int request_for(mbedtls_pk_context *key, const hawser_io *io, char *out, size_t size)
{
    unsigned char der[512];
    mbedtls_x509write_csr req;
    size_t n = 0;
    int rc;
    mbedtls_x509write_csr_init(&req);
    mbedtls_x509write_csr_set_key(&req, key);
    mbedtls_x509write_csr_set_md_alg(&req, MBEDTLS_MD_SHA256);
    rc = mbedtls_x509write_csr_der(&req, der, sizeof der, io->random, io->random_ctx); /* writes at the end */
    if (rc > 0)
        rc = mbedtls_base64_encode((unsigned char *)out, size, &n, der + sizeof der - rc, (size_t)rc);
    else if (rc == 0)
        rc = -1;
    mbedtls_x509write_csr_free(&req);
    return rc;
}

/* ---- the answer ---- */

static bool enter(const unsigned char **p, const unsigned char *end, int tag, const unsigned char **inner_end)
{
    size_t n;
    if (mbedtls_asn1_get_tag((unsigned char **)p, end, &n, tag) != 0)
        return false;
    *inner_end = *p + n; /* get_tag has seen that it is not beyond end */
    return true;
}

static bool skip(const unsigned char **p, const unsigned char *end, int tag)
{
    const unsigned char *after;
    if (!enter(p, end, tag, &after))
        return false;
    *p = after;
    return true;
}

/* RFC 5652 §5.1, as RFC 5272 §4.1 uses it: nothing is signed, certificates only. */
bool hawser_pkcs7_first(const unsigned char *der, size_t size, const unsigned char **cert, size_t *cert_size)
{
    static const unsigned char signed_data[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02};
    const int sequence = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
    const int set = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SET;
    const int zero = MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_ASN1_CONSTRUCTED | 0;
    const unsigned char *p = der, *end = der + size, *oid_end, *first;
    if (!enter(&p, end, sequence, &end) || end != der + size)
        return false;
    if (!enter(&p, end, MBEDTLS_ASN1_OID, &oid_end) || (size_t)(oid_end - p) != sizeof signed_data || memcmp(p, signed_data, sizeof signed_data) != 0)
        return false;
    p = oid_end;
    if (!enter(&p, end, zero, &end) || !enter(&p, end, sequence, &end))
        return false;
    if (!skip(&p, end, MBEDTLS_ASN1_INTEGER) || !skip(&p, end, set) || !skip(&p, end, sequence) || !enter(&p, end, zero, &end))
        return false;
    first = p;
    if (!skip(&p, end, sequence))
        return false;
    *cert = first;
    *cert_size = (size_t)(p - first);
    return true;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool begins(const char *s, const char *with)
{
    for (; *with != '\0'; s++, with++)
        if (lower(*s) != *with)
            return false;
    return true;
}

/* The value of a header (its name in small letters), or NULL. */
static const char *header(const char *head, const char *name)
{
    const char *l = head;
    while ((l = strstr(l, "\r\n")) != NULL) {
        l += 2;
        if (begins(l, name) && l[strlen(name)] == ':') {
            l += strlen(name) + 1;
            return l + strspn(l, " \t");
        }
    }
    return NULL;
}

/* Takes an answer apart: the body, when it is a whole one that says yes. */
static int judge(char *answer, hawser_answer *a, char **body)
{
    char *head_end = strstr(answer, "\r\n\r\n");
    const char *v;
    size_t i = 0;
    if (head_end == NULL || !begins(answer, "http/1.") || strlen(answer) < 12 || answer[8] != ' ')
        return HAWSER_E_SERVER;
    a->status = (int)strtol(answer + 9, NULL, 10);
    *body = head_end + 4;
    head_end[2] = '\0';
    v = header(answer, "content-length");
    if (v == NULL || strtoul(v, NULL, 10) != strlen(*body))
        return HAWSER_E_SERVER; /* cut short, or longer than it says */
    if (a->status == 200) {
        v = header(answer, "content-type");
        return v != NULL && begins(v, "application/pkcs7-mime") ? HAWSER_OK : HAWSER_E_SERVER;
    }
    for (; (*body)[i] != '\0' && i + 1 < sizeof a->said; i++)
        a->said[i] = (*body)[i] >= ' ' && (*body)[i] < 0x7f ? (*body)[i] : ' ';
    if (a->status == 202 || a->status == 429 || a->status >= 500) {
        v = header(answer, "retry-after");
        a->retry_after_s = v == NULL ? 60 : (unsigned)strtoul(v, NULL, 10);
        if (a->retry_after_s > 3600)
            a->retry_after_s = 3600;
        return HAWSER_E_LATER;
    }
    return HAWSER_E_REFUSED;
}

/* The certificate in an answer, as PEM, when it is one for our key. */
static int certificate_in(char *body, mbedtls_pk_context *key, const hawser_io *io, char *pem, size_t size)
{
    const unsigned char *der;
    size_t n = 0, der_size;
    mbedtls_x509_crt c;
    int rc = HAWSER_E_SERVER;
    mbedtls_x509_crt_init(&c);
    /* In place: what comes out is shorter than what goes in. */
    if (mbedtls_base64_decode((unsigned char *)body, strlen(body), &n, (unsigned char *)body, strlen(body)) != 0)
        goto done;
    if (!hawser_pkcs7_first((unsigned char *)body, n, &der, &der_size) || mbedtls_x509_crt_parse_der(&c, der, der_size) != 0)
        goto done;
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    if (mbedtls_pk_check_pair(&c.pk, key, io->random, io->random_ctx) != 0)
        goto done;
#else
    (void)io;
    if (mbedtls_pk_get_type(&c.pk) != MBEDTLS_PK_ECKEY || mbedtls_pk_check_pair(&c.pk, key) != 0)
        goto done; /* a certificate for somebody else's key */
#endif
    n = 0;
    rc = mbedtls_pem_write_buffer("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", der, der_size, (unsigned char *)pem, size, &n) == 0
             ? HAWSER_OK
             : HAWSER_E_LOCAL;
done:
    mbedtls_x509_crt_free(&c);
    return rc;
}

/* One request and its answer, bounded in bytes and in time. */
static int exchange(const hawser_io *io, const char *cert_pem, const char *key_pem, const char *request, char *answer, hawser_answer *a)
{
    hawser_tls *t = calloc(1, sizeof *t);
    size_t got = 0;
    int n;
    if (t == NULL)
        return HAWSER_E_LOCAL;
    a->tls = hawser_tls_open(t, io, HAWSER_EST_HOST, cert_pem, key_pem, TIMEOUT_MS);
    if (a->tls == 0)
        a->tls = hawser_tls_write(t, (const unsigned char *)request, strlen(request));
    while (a->tls == 0 && got < MAX_ANSWER - 1) {
        n = hawser_tls_read(t, (unsigned char *)answer + got, MAX_ANSWER - 1 - got);
        if (n <= 0) /* what was cut short is found to be so by its length */
            break;
        got += (size_t)n;
    }
    hawser_tls_close(t);
    free(t);
    answer[got] = '\0';
    return a->tls == 0 && got > 0 && got < MAX_ANSWER - 1 ? HAWSER_OK : HAWSER_E_SERVER;
}

static int certify(const hawser_io *io, const char *path, const char *login, const char *cert_pem, const char *key_pem, const char *new_key_pem, char *out, size_t size, hawser_answer *a)
{
    char *request = calloc(1, MAX_REQUEST), *answer = calloc(1, MAX_ANSWER), *csr = calloc(1, 704), *body;
    mbedtls_pk_context key;
    int n, rc = HAWSER_E_LOCAL;
    memset(a, 0, sizeof *a);
    if (size > 0)
        out[0] = '\0';
    mbedtls_pk_init(&key);
    if (request == NULL || answer == NULL || csr == NULL || parse_key(&key, new_key_pem, io) != 0 || request_for(&key, io, csr, 704) != 0)
        goto done;
    n = snprintf(request, MAX_REQUEST,
                 "POST %s HTTP/1.1\r\nHost: %s:%d\r\nConnection: close\r\n%s%s%sContent-Type: application/pkcs10\r\nContent-Length: %u\r\n\r\n%s", path,
                 HAWSER_EST_HOST, HAWSER_EST_PORT, login != NULL ? "Authorization: Basic " : "", login != NULL ? login : "", login != NULL ? "\r\n" : "",
                 (unsigned)strlen(csr), csr);
    if (n < 0 || n >= MAX_REQUEST)
        goto done;
    if ((rc = exchange(io, cert_pem, key_pem, request, answer, a)) == HAWSER_OK && (rc = judge(answer, a, &body)) == HAWSER_OK)
        rc = certificate_in(body, &key, io, out, size);
done:
    if (request != NULL)
        mbedtls_platform_zeroize(request, MAX_REQUEST); /* the code stands in it */
    mbedtls_pk_free(&key);
    free(request);
    free(answer);
    free(csr);
    return rc;
}

int hawser_enrol(const hawser_io *io, const char *serial, const char *code, const char *key_pem, char *cert_pem, size_t size, hawser_answer *a)
{
    char login[200], encoded[280];
    size_t n = 0;
    int rc = HAWSER_E_LOCAL, len = snprintf(login, sizeof login, "%s:%s", serial, code);
    memset(a, 0, sizeof *a);
    if (len > 0 && (size_t)len < sizeof login &&
        mbedtls_base64_encode((unsigned char *)encoded, sizeof encoded, &n, (const unsigned char *)login, (size_t)len) == 0)
        rc = certify(io, HAWSER_EST_ENROL, encoded, NULL, NULL, key_pem, cert_pem, size, a);
    mbedtls_platform_zeroize(login, sizeof login);
    mbedtls_platform_zeroize(encoded, sizeof encoded);
    return rc;
}

int hawser_renew(const hawser_io *io, const char *cert_pem, const char *key_pem, const char *new_key_pem, char *new_cert_pem, size_t size, hawser_answer *a)
{
    return certify(io, HAWSER_EST_RENEW, NULL, cert_pem, key_pem, new_key_pem, new_cert_pem, size, a);
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t days(int64_t y, int m, int d)
{
    int64_t era, of_era;
    y -= m <= 2;
    era = y / 400;
    of_era = (y - era * 400) * 365 + (y - era * 400) / 4 - (y - era * 400) / 100 + (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era - 719468;
}

int64_t hawser_certificate_left(const char *cert_pem, int64_t now)
{
    mbedtls_x509_crt c;
    int64_t left = INT64_MIN;
    mbedtls_x509_crt_init(&c);
    if (mbedtls_x509_crt_parse(&c, (const unsigned char *)cert_pem, strlen(cert_pem) + 1) == 0)
        left = days(c.valid_to.year, c.valid_to.mon, c.valid_to.day) * 86400 + c.valid_to.hour * 3600 + c.valid_to.min * 60 + c.valid_to.sec - now;
    mbedtls_x509_crt_free(&c);
    return left;
}
