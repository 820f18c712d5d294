#include "hawser_est.h"
#include "hawser_settings.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs7.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MAX_ANSWER (64 * 1024) /* bytes of an answer, headers and all */
#define MAX_REQUEST 4096
#define TIMEOUT_S 30 /* for all of it */

static SSL_CTX *context(const char *identity)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    BIO *pem = BIO_new_mem_buf(HAWSER_ROOTS, -1);
    X509 *root;
    int n = 0;
    if (ctx == NULL || pem == NULL)
        goto bad;
    while ((root = PEM_read_bio_X509(pem, NULL, NULL, NULL)) != NULL) {
        n += X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root);
        X509_free(root);
    }
    BIO_free(pem);
    pem = NULL;
    if (n == 0)
        goto bad;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (!SSL_CTX_set_min_proto_version(ctx, HAWSER_TLS12 ? TLS1_2_VERSION : TLS1_3_VERSION))
        goto bad;
    if (identity != NULL && (SSL_CTX_use_certificate_file(ctx, identity, SSL_FILETYPE_PEM) != 1 ||
                             SSL_CTX_use_PrivateKey_file(ctx, identity, SSL_FILETYPE_PEM) != 1))
        goto bad;
    return ctx;
bad:
    BIO_free(pem);
    SSL_CTX_free(ctx);
    return NULL;
}

/* A P-256 key; the request names nobody: the server knows the unit. */
static char *request_for(EVP_PKEY *key)
{
    X509_REQ *req = X509_REQ_new();
    unsigned char *der = NULL;
    char *text = NULL;
    int n;
    if (req == NULL || !X509_REQ_set_version(req, 0) || !X509_REQ_set_pubkey(req, key) || !X509_REQ_sign(req, key, EVP_sha256()))
        goto done;
    if ((n = i2d_X509_REQ(req, &der)) <= 0 || (text = malloc((size_t)n * 2 + 8)) == NULL)
        goto done;
    EVP_EncodeBlock((unsigned char *)text, der, n);
done:
    OPENSSL_free(der);
    X509_REQ_free(req);
    return text;
}

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Sends a request and reads the answer until its end, a bound in bytes, or a
 * bound in time. Gives the bytes read, or -1. */
static int exchange(SSL_CTX *ctx, const char *request, size_t n, char *answer, size_t size)
{
    char port[8];
    struct timeval wait = {.tv_sec = 10, .tv_usec = 0};
    long long end = now_ms() + TIMEOUT_S * 1000LL;
    SSL *ssl = NULL;
    BIO *bio = BIO_new_ssl_connect(ctx);
    int fd = -1, got = 0, len = -1;
    if (bio == NULL || BIO_get_ssl(bio, &ssl) != 1)
        goto done;
    snprintf(port, sizeof port, "%d", HAWSER_EST_PORT);
    BIO_set_conn_hostname(bio, HAWSER_EST_HOST);
    BIO_set_conn_port(bio, port);
    if (SSL_set1_host(ssl, HAWSER_EST_HOST) != 1 || SSL_set_tlsext_host_name(ssl, HAWSER_EST_HOST) != 1)
        goto done;
    SSL_set_mode(ssl, SSL_MODE_AUTO_RETRY);
    /* The socket exists once TCP is up; from then on each wait has an end. */
    if (BIO_do_connect(BIO_next(bio)) != 1 || BIO_get_fd(bio, &fd) < 0)
        goto done;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (BIO_do_handshake(bio) != 1 || BIO_write(bio, request, (int)n) != (int)n)
        goto done;
    while ((size_t)got < size - 1) {
        int r = BIO_read(bio, answer + got, (int)(size - 1 - (size_t)got));
        if (r <= 0) {
            answer[got] = '\0';
            len = got; /* what was cut short is found to be so by its length */
            break;
        }
        got += r;
        if (now_ms() > end)
            break;
    }
done:
    BIO_free_all(bio);
    return len;
}

/* The value of a header, copied; empty when there is none. */
static void header(const char *head, const char *name, char *out, size_t size)
{
    size_t n = strlen(name);
    const char *l = head;
    out[0] = '\0';
    while ((l = strstr(l, "\r\n")) != NULL) {
        l += 2;
        if (strncasecmp(l, name, n) == 0 && l[n] == ':') {
            const char *v = l + n + 1, *e = strstr(v, "\r\n");
            v += strspn(v, " \t");
            snprintf(out, size, "%.*s", e != NULL && e > v ? (int)(e - v) : 0, v);
            return;
        }
    }
}

/* Takes an answer apart: the body, when it is a whole one that says yes. */
static int judge(char *answer, hawser_answer *a, char **body)
{
    char value[64], *head_end = strstr(answer, "\r\n\r\n");
    size_t i = 0, n;
    const char *p;
    if (head_end == NULL || sscanf(answer, "HTTP/1.%*1d %3d", &a->status) != 1)
        return HAWSER_E_SERVER;
    *body = head_end + 4;
    head_end[2] = '\0';
    header(answer, "Content-Length", value, sizeof value);
    n = strlen(*body);
    if (value[0] == '\0' || strtoul(value, NULL, 10) != n)
        return HAWSER_E_SERVER; /* cut short, or longer than it says */
    for (p = *body; *p != '\0' && i + 1 < sizeof a->said; p++)
        a->said[i++] = *p >= ' ' && *p < 0x7f ? *p : ' ';
    if (a->status == 202 || a->status == 429 || a->status >= 500) {
        header(answer, "Retry-After", value, sizeof value);
        a->retry_after_s = value[0] == '\0' ? 60 : (unsigned)strtoul(value, NULL, 10);
        if (a->retry_after_s > 3600)
            a->retry_after_s = 3600;
        return HAWSER_E_LATER;
    }
    if (a->status != 200)
        return HAWSER_E_REFUSED;
    memset(a->said, 0, sizeof a->said); /* a certificate is no message */
    header(answer, "Content-Type", value, sizeof value);
    return strncasecmp(value, "application/pkcs7-mime", 22) == 0 ? HAWSER_OK : HAWSER_E_SERVER;
}

/* The first certificate of a certs-only PKCS#7 in base64. */
static X509 *certificate_in(char *body)
{
    BIO *b64 = BIO_new(BIO_f_base64()), *mem = BIO_new_mem_buf(body, -1);
    PKCS7 *p7 = NULL;
    X509 *c = NULL;
    char after;
    if (b64 != NULL && mem != NULL) {
        if (strchr(body, '\n') == NULL)
            BIO_set_flags(b64, BIO_FLAGS_BASE64_NO_NL);
        mem = BIO_push(b64, mem);
        b64 = NULL;
        p7 = d2i_PKCS7_bio(mem, NULL);
        if (BIO_read(mem, &after, 1) > 0) { /* nothing may follow */
            PKCS7_free(p7);
            p7 = NULL;
        }
    }
    if (p7 != NULL && PKCS7_type_is_signed(p7) && p7->d.sign != NULL && sk_X509_num(p7->d.sign->cert) > 0) {
        c = sk_X509_value(p7->d.sign->cert, 0);
        if (X509_up_ref(c) != 1)
            c = NULL;
    }
    PKCS7_free(p7);
    BIO_free_all(mem);
    BIO_free(b64);
    return c;
}

/* Writes certificate and key into one file, whole or not at all. */
static int keep(const char *identity, X509 *c, EVP_PKEY *key)
{
    char part[512];
    FILE *f;
    int fd, ok;
    if (snprintf(part, sizeof part, "%s.part", identity) >= (int)sizeof part)
        return HAWSER_E_LOCAL;
    if ((fd = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600)) < 0 || (f = fdopen(fd, "w")) == NULL)
        return HAWSER_E_LOCAL;
    ok = PEM_write_X509(f, c) && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) && fflush(f) == 0 && fsync(fd) == 0;
    ok = fclose(f) == 0 && ok;
    return ok && rename(part, identity) == 0 ? HAWSER_OK : HAWSER_E_LOCAL;
}

/* A key is used for one request only: the server refuses a key twice. When the
 * answer is lost, the next try makes another one; an enrolment code is spent
 * when its certificate is first used, not before. */
static int certify(const char *path, const char *login, const char *with, const char *identity, hawser_answer *a)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    SSL_CTX *ctx = context(with);
    char *body = NULL, *text = key != NULL ? request_for(key) : NULL;
    char *request = malloc(MAX_REQUEST), *answer = malloc(MAX_ANSWER);
    X509 *c = NULL;
    int n = -1, rc = HAWSER_E_LOCAL;
    memset(a, 0, sizeof *a);
    if (key == NULL || ctx == NULL || text == NULL || request == NULL || answer == NULL)
        goto done;
    n = snprintf(request, MAX_REQUEST, "POST %s HTTP/1.1\r\nHost: %s:%d\r\nConnection: close\r\n%s%s%sContent-Type: application/pkcs10\r\nContent-Length: %zu\r\n\r\n%s",
                 path, HAWSER_EST_HOST, HAWSER_EST_PORT, login != NULL ? "Authorization: Basic " : "", login != NULL ? login : "",
                 login != NULL ? "\r\n" : "", strlen(text), text);
    if (n < 0 || n >= MAX_REQUEST)
        goto done;
    rc = HAWSER_E_SERVER;
    if (exchange(ctx, request, (size_t)n, answer, MAX_ANSWER) <= 0 || (rc = judge(answer, a, &body)) != HAWSER_OK)
        goto done;
    rc = HAWSER_E_SERVER;
    if ((c = certificate_in(body)) == NULL || X509_check_private_key(c, key) != 1)
        goto done; /* no certificate, or one for somebody else's key */
    rc = keep(identity, c, key);
done:
    if (request != NULL)
        OPENSSL_cleanse(request, MAX_REQUEST); /* the code stands in it */
    free(request);
    free(answer);
    free(text);
    X509_free(c);
    EVP_PKEY_free(key);
    SSL_CTX_free(ctx);
    return rc;
}

int hawser_enrol(const char *serial, const char *code, const char *identity, hawser_answer *a)
{
    char login[256], encoded[400];
    int rc, n = snprintf(login, sizeof login, "%s:%s", serial, code);
    if (n < 0 || n >= (int)sizeof login)
        return HAWSER_E_LOCAL;
    EVP_EncodeBlock((unsigned char *)encoded, (unsigned char *)login, n);
    rc = certify(HAWSER_EST_ENROL, encoded, NULL, identity, a);
    OPENSSL_cleanse(login, sizeof login);
    OPENSSL_cleanse(encoded, sizeof encoded);
    return rc;
}

int hawser_renew(const char *old, const char *identity, hawser_answer *a)
{
    return certify(HAWSER_EST_RENEW, NULL, old, identity, a);
}

int hawser_renewal_due(const char *identity)
{
    FILE *f = fopen(identity, "r");
    X509 *c = f != NULL ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    int due = -1, days, seconds;
    if (f != NULL)
        fclose(f);
    if (c != NULL && ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(c)))
        due = days * 3 < HAWSER_CERTIFICATE_DAYS;
    X509_free(c);
    return due;
}
