/* The kit's portable part as a process on Linux, before there is hardware: one
 * unit that enrols over EST, connects with mutual TLS, sends, listens, renews.
 * The very files that go into the firmware run here; sockets and files are
 * Linux's. The enrolment code comes in a file and is used once; the key is made
 * here; neither of them is ever printed. */
#include "hawser_enrol.h"
#include "hawser_mqtt.h"
#include "hawser_readings.h"
#include "hawser_settings.h"

#include <errno.h>
#include <fcntl.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *state = "state";
static int refused;
static time_t try_again; /* when to renew again, after a renewal that failed */

static void say(const char *what, const char *more)
{
    printf("%s%s\n", what, more);
    fflush(stdout);
}

static uint32_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
}

static bool path(char *out, size_t size, const char *name)
{
    int n = snprintf(out, size, "%s/%s", state, name);
    return n > 0 && (size_t)n < size;
}

/* A firmware keeps these in NVS or in a secure element. */
static bool keep(const char *name, const char *text)
{
    char whole[512], part[512];
    size_t n = strlen(text);
    int fd;
    bool ok;
    if (!path(whole, sizeof whole, name) || !path(part, sizeof part, "part"))
        return false;
    if ((fd = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600)) < 0)
        return false;
    ok = write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    return ok && rename(part, whole) == 0;
}

static bool recall(const char *name, char *out, size_t size)
{
    char whole[512];
    size_t n;
    FILE *f;
    out[0] = '\0';
    if (!path(whole, sizeof whole, name) || (f = fopen(whole, "r")) == NULL)
        return false;
    n = fread(out, 1, size - 1, f);
    out[n] = '\0';
    fclose(f);
    return n > 0;
}

/* Key and certificate belong together: one text, out of which Mbed TLS picks
 * what it looks for. */
#define IDENTITY (HAWSER_KEY_PEM + HAWSER_CERT_PEM)

static bool keep_identity(const char *name, const char *key, const char *cert)
{
    char both[IDENTITY];
    bool ok = snprintf(both, sizeof both, "%s%s", key, cert) < (int)sizeof both && keep(name, both);
    mbedtls_platform_zeroize(both, sizeof both);
    return ok;
}

static void remove_file(const char *name)
{
    char whole[512];
    if (path(whole, sizeof whole, name))
        (void)unlink(whole); /* it may not be there */
}

static bool dial(hawser_io *io, mbedtls_net_context *net, const char *host, int port)
{
    char text[8];
    snprintf(text, sizeof text, "%d", port);
    mbedtls_net_init(net);
    if (mbedtls_net_connect(net, host, text, MBEDTLS_NET_PROTO_TCP) != 0)
        return false;
    io->socket = net;
    io->send = mbedtls_net_send;
    io->recv = mbedtls_net_recv_timeout;
    return true;
}

static int failed(const char *what, int rc, const hawser_answer *a)
{
    fprintf(stderr, "%s failed (%d, HTTP %d, TLS -0x%04x): %s\n", what, rc, a->status, (unsigned)-a->tls, a->said);
    return 1;
}

/* Enrols with a code, or renews where code is NULL. */
static int certify(hawser_io *io, const char *serial, const char *code)
{
    char key[HAWSER_KEY_PEM], cert[HAWSER_CERT_PEM], old[IDENTITY];
    mbedtls_net_context net;
    hawser_answer a = {0};
    int rc = hawser_key_new(io, key, sizeof key);
    if (rc != HAWSER_OK || !dial(io, &net, HAWSER_EST_HOST, HAWSER_EST_PORT))
        return failed("reaching the enrolment door", rc, &a);
    if (code != NULL)
        rc = hawser_enrol(io, serial, code, key, cert, sizeof cert, &a);
    else if (recall("identity", old, sizeof old))
        rc = hawser_renew(io, old, old, key, cert, sizeof cert, &a);
    mbedtls_net_free(&net);
    if (rc == HAWSER_OK && !keep_identity(code != NULL ? "identity" : "identity.next", key, cert))
        rc = HAWSER_E_LOCAL;
    mbedtls_platform_zeroize(key, sizeof key);
    if (rc != HAWSER_OK)
        return failed(code != NULL ? "enrolment" : "renewal", rc, &a);
    say(code != NULL ? "enrolled" : "renewed", "");
    return 0;
}

static void heard(void *ctx, const char *topic, size_t topic_len, const char *text, size_t len)
{
    char line[300];
    size_t i;
    (void)ctx;
    for (i = 0; i < len && i < sizeof line - 1; i++)
        line[i] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : ' ';
    line[i] = '\0';
    if (topic_len == 7 && memcmp(topic, "refused", 7) == 0)
        refused = 1;
    printf("%.*s: %s\n", (int)topic_len, topic, line);
    fflush(stdout);
}

static uint64_t count_start(void)
{
    char text[32];
    uint64_t n = 0;
    if (recall("boot", text, sizeof text))
        n = strtoull(text, NULL, 10);
    if (n == 0)
        n = (uint64_t)time(NULL); /* lost: higher than any number of starts */
    snprintf(text, sizeof text, "%llu", (unsigned long long)n + 1);
    if (!keep("boot", text))
        say("the number of starts cannot be kept", "");
    return n + 1;
}

/* One session: connects, sends one message to each stream, listens a moment. */
static int session(hawser_io *io, const char *with, uint64_t boot, uint64_t *seq)
{
    static const char *const topics[] = HAWSER_TOPICS;
    char identity[IDENTITY], text[HAWSER_MAX_MESSAGE + 1];
    mbedtls_net_context net;
    hawser_tls *tls = calloc(1, sizeof *tls);
    hawser_mqtt *m = calloc(1, sizeof *m);
    int i, n, rc = -1;
    if (tls == NULL || m == NULL || !recall(with, identity, sizeof identity) || !dial(io, &net, HAWSER_HOST, HAWSER_MQTT_PORT))
        goto done;
    m->tls = tls;
    m->heard = heard;
    if ((rc = hawser_tls_open(tls, io, HAWSER_HOST, identity, identity, 30000)) == 0 && (rc = hawser_mqtt_connect(m, HAWSER_KEEP_ALIVE)) == 0) {
        say("connected", "");
        if (strcmp(with, "identity.next") == 0) { /* its first use ended the old one */
            if (!keep("identity", identity))
                rc = -1;
            else
                remove_file("identity.next");
        }
        if (rc == 0)
            rc = hawser_mqtt_subscribe(m, topics, HAWSER_TOPIC_COUNT);
    }
    for (i = 0; rc == 0 && i < HAWSER_STREAMS; i++) {
        const hawser_stream *s = &hawser_streams[i];
        struct timespec t;
        hawser_stamp stamp = {0, boot, ++*seq};
        /* In milliseconds, not cut to the second: that may be before the unit's
         * first enrolment. A clock from before 2025 is none. */
        if (clock_gettime(CLOCK_REALTIME, &t) == 0 && t.tv_sec > 1735689600)
            stamp.t = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
        hawser_tls_limit(tls, 30000);
        if ((n = s->example(text, sizeof text, &stamp)) < 0)
            rc = n;
        else if ((rc = hawser_mqtt_publish(m, s->topic, text, (size_t)n)) == 0)
            say("acknowledged: ", s->name);
    }
    if (rc == 0) {
        hawser_tls_limit(tls, 1000); /* for what is refused */
        rc = hawser_mqtt_listen(m);
        hawser_tls_limit(tls, 5000);
        if (rc == 0)
            rc = hawser_mqtt_disconnect(m);
    }
    hawser_tls_close(tls);
    mbedtls_net_free(&net);
done:
    mbedtls_platform_zeroize(identity, sizeof identity);
    free(tls);
    free(m);
    if (rc != 0)
        fprintf(stderr, "session with %s: %d (-0x%04x)\n", with, rc, (unsigned)-rc);
    return rc;
}

static int run(hawser_io *io, const char *serial, const char *code_file, bool once, bool renew_now)
{
    char identity[IDENTITY], code[130] = "", next[IDENTITY];
    uint64_t boot, seq = 0;
    if (!recall("identity", identity, sizeof identity)) {
        FILE *f = code_file != NULL ? fopen(code_file, "r") : NULL;
        int rc;
        if (f == NULL || fgets(code, sizeof code, f) == NULL) {
            fprintf(stderr, "not enrolled: give --code-file with the code that `hawser device add` printed\n");
            return 2;
        }
        fclose(f);
        code[strcspn(code, " \r\n")] = '\0';
        rc = certify(io, serial, code);
        mbedtls_platform_zeroize(code, sizeof code);
        if (rc != 0)
            return rc;
    }
    boot = count_start();
    for (;;) {
        uint32_t wait_ms = 3600000;
        int i;
        bool due;
        if (!recall("identity", identity, sizeof identity))
            return 1;
        due = hawser_certificate_left(identity, (int64_t)time(NULL)) < (int64_t)HAWSER_CERTIFICATE_DAYS * 86400 / 3;
        if ((renew_now || (due && time(NULL) >= try_again)) && !recall("identity.next", next, sizeof next) && certify(io, serial, NULL) != 0) {
            if (renew_now)
                return 1;
            try_again = time(NULL) + 3600; /* that ends nothing: the certificate is good for weeks */
        }
        renew_now = false;
        /* The newest certificate that works. */
        if (!(recall("identity.next", next, sizeof next) && session(io, "identity.next", boot, &seq) == 0) && session(io, "identity", boot, &seq) != 0)
            return 1; /* firmware tries again: after 1 s, 2 s, 4 s … up to an hour, a little at random */
        if (once)
            return refused ? 3 : 0;
        for (i = 0; i < HAWSER_STREAMS; i++)
            if (hawser_streams[i].every_ms < wait_ms)
                wait_ms = hawser_streams[i].every_ms;
        usleep(wait_ms * 1000);
    }
}

int main(int argc, char **argv)
{
    const char *serial = NULL, *code_file = NULL;
    bool once = false, renew_now = false;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context drbg;
    hawser_io io = {0};
    int i, rc = 1;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--once") == 0) {
            once = true;
        } else if (strcmp(argv[i], "--renew-now") == 0) {
            renew_now = true;
        } else if (i + 1 < argc && strcmp(argv[i], "--serial") == 0) {
            serial = argv[++i];
        } else if (i + 1 < argc && strcmp(argv[i], "--state") == 0) {
            state = argv[++i];
        } else if (i + 1 < argc && strcmp(argv[i], "--code-file") == 0) {
            code_file = argv[++i];
        } else {
            serial = NULL;
            break;
        }
    }
    if (serial == NULL) {
        fprintf(stderr, "usage: %s --serial SERIAL [--state DIR] [--code-file FILE] [--once] [--renew-now]\n", argv[0]);
        return 2;
    }
    if (mkdir(state, 0700) != 0 && errno != EEXIST) {
        perror(state);
        return 1;
    }
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    io.now_ms = now_ms;
    io.random = mbedtls_ctr_drbg_random;
    io.random_ctx = &drbg;
    if (mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, (const unsigned char *)serial, strlen(serial)) == 0)
        rc = run(&io, serial, code_file, once, renew_now);
    mbedtls_ctr_drbg_free(&drbg);
    mbedtls_entropy_free(&entropy);
    return rc;
}
