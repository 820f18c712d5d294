/* One unit: enrols over EST, connects with mutual TLS, sends, listens, renews.
 * Made by `hawser device kit`: a sketch to build on, with Paho MQTT C and
 * OpenSSL. The unit's enrolment code comes in a file at run time and is used
 * once; its key is made here, never leaves the state folder, and neither of
 * them is ever printed. */
#include "hawser_est.h"
#include "hawser_readings.h"
#include "hawser_settings.h"

#include <MQTTClient.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ACK_MS 30000

static char state[400] = "state", identity[450], next_identity[450], roots[450];
static int refused;
static time_t try_again; /* when to renew again, after a renewal that failed */

static void say(const char *what, const char *more)
{
    printf("%s%s\n", what, more);
    fflush(stdout);
}

static int write_file(const char *name, const char *text)
{
    char part[512];
    int fd, ok;
    size_t n = strlen(text);
    snprintf(part, sizeof part, "%s.part", name);
    if ((fd = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600)) < 0)
        return -1;
    ok = write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    return ok && rename(part, name) == 0 ? 0 : -1;
}

/* One more than at the last start. Written once a start, not once a reading:
 * flash wears out. */
static uint64_t count_start(void)
{
    char name[450], text[32] = "";
    unsigned long long n = 0;
    FILE *f;
    snprintf(name, sizeof name, "%s/boot", state);
    if ((f = fopen(name, "r")) != NULL) {
        if (fgets(text, sizeof text, f) != NULL)
            n = strtoull(text, NULL, 10);
        fclose(f);
    }
    if (n == 0)
        n = (unsigned long long)time(NULL); /* lost: higher than any number of starts */
    snprintf(text, sizeof text, "%llu", n + 1);
    if (write_file(name, text) != 0)
        say("the number of starts cannot be kept in ", name);
    return n + 1;
}

/* Runs in the client's own thread. */
static int heard(void *context, char *topic, int length, MQTTClient_message *m)
{
    char text[300];
    int i, n = m->payloadlen < (int)sizeof text - 1 ? m->payloadlen : (int)sizeof text - 1;
    (void)context;
    (void)length;
    for (i = 0; i < n; i++) {
        char c = ((char *)m->payload)[i];
        text[i] = c >= ' ' && c < 0x7f ? c : ' ';
    }
    text[n] = '\0';
    if (strcmp(topic, "refused") == 0) {
        refused = 1;
        say("refused: ", text);
    } else {
        say("message on ", topic);
    }
    MQTTClient_freeMessage(&m);
    MQTTClient_free(topic);
    return 1;
}

static int connect_with(MQTTClient *client, const char *with)
{
    static char *const topics[] = HAWSER_TOPICS;
    int qos[HAWSER_TOPIC_COUNT], i, rc;
    char uri[300];
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
    MQTTClient_connectOptions o = MQTTClient_connectOptions_initializer;
    snprintf(uri, sizeof uri, "ssl://%s:%d", HAWSER_HOST, HAWSER_MQTT_PORT);
    if ((rc = MQTTClient_create(client, uri, "", MQTTCLIENT_PERSISTENCE_NONE, NULL)) != MQTTCLIENT_SUCCESS)
        return rc;
    MQTTClient_setCallbacks(*client, NULL, NULL, heard, NULL);
    tls.trustStore = roots;
    tls.keyStore = with;   /* certificate and key in one file */
    tls.privateKey = with;
    tls.verify = 1; /* the host's name as well */
    tls.enableServerCertAuth = 1;
    o.ssl = &tls;
    o.keepAliveInterval = HAWSER_KEEP_ALIVE;
    o.cleansession = 1;
    o.MQTTVersion = MQTTVERSION_3_1_1;
    if ((rc = MQTTClient_connect(*client, &o)) == MQTTCLIENT_SUCCESS) {
        for (i = 0; i < HAWSER_TOPIC_COUNT; i++)
            qos[i] = 1;
        rc = MQTTClient_subscribeMany(*client, HAWSER_TOPIC_COUNT, topics, qos);
    }
    if (rc != MQTTCLIENT_SUCCESS)
        MQTTClient_destroy(client);
    return rc;
}

/* Connects with the newest certificate that works. */
static int join(MQTTClient *client)
{
    if (access(next_identity, R_OK) == 0) {
        if (connect_with(client, next_identity) == MQTTCLIENT_SUCCESS)
            return rename(next_identity, identity); /* its first use ended the old one */
        say("the renewed certificate does not work yet", "");
    }
    return connect_with(client, identity);
}

static int send_one(MQTTClient client, const hawser_stream *s, uint64_t boot, uint64_t seq)
{
    char message[HAWSER_MAX_MESSAGE + 1];
    hawser_stamp stamp = {0, boot, seq};
    MQTTClient_deliveryToken token;
    struct timespec now;
    int n, rc;
    /* In milliseconds, not cut to the second: that may be before the unit's
     * first enrolment. A clock from before 2025 is none. */
    if (clock_gettime(CLOCK_REALTIME, &now) == 0 && now.tv_sec > 1735689600)
        stamp.t = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if ((n = s->example(message, sizeof message, &stamp)) < 0)
        return n;
    if ((rc = MQTTClient_publish(client, s->topic, n, message, 1, 0, &token)) != MQTTCLIENT_SUCCESS)
        return rc;
    if ((rc = MQTTClient_waitForCompletion(client, token, ACK_MS)) != MQTTCLIENT_SUCCESS)
        return rc; /* keep the reading and send it again, with the same boot and seq */
    say("acknowledged: ", s->name);
    return 0;
}

static int wants_renewal(void)
{
    return hawser_renewal_due(identity) == 1 && access(next_identity, F_OK) != 0 && time(NULL) >= try_again;
}

static int troubled(const char *what, int rc, const hawser_answer *a)
{
    fprintf(stderr, "%s failed (%d, HTTP %d): %s\n", what, rc, a->status, a->said);
    return 1;
}

int main(int argc, char **argv)
{
    const char *serial = NULL, *code_file = NULL;
    int i, once = 0, renew_now = 0, rc;
    uint64_t boot, seq = 0;
    hawser_answer a;
    MQTTClient client;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--once") == 0)
            once = 1;
        else if (strcmp(argv[i], "--renew-now") == 0)
            renew_now = 1;
        else if (i + 1 < argc && strcmp(argv[i], "--serial") == 0)
            serial = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--state") == 0)
            snprintf(state, sizeof state, "%s", argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--code-file") == 0)
            code_file = argv[++i];
        else
            serial = NULL, argc = i;
    }
    if (serial == NULL) {
        fprintf(stderr, "usage: %s --serial SERIAL [--state DIR] [--code-file FILE] [--once] [--renew-now]\n", argv[0]);
        return 2;
    }
    if (mkdir(state, 0700) != 0 && errno != EEXIST) {
        perror(state);
        return 1;
    }
    snprintf(identity, sizeof identity, "%s/identity.pem", state);
    snprintf(next_identity, sizeof next_identity, "%s/identity.next.pem", state);
    snprintf(roots, sizeof roots, "%s/roots.pem", state);
    if (write_file(roots, HAWSER_ROOTS) != 0) {
        perror(roots);
        return 1;
    }
    if (access(identity, R_OK) != 0) {
        char code[130] = "";
        FILE *f = code_file != NULL ? fopen(code_file, "r") : NULL;
        if (f == NULL || fgets(code, sizeof code, f) == NULL) {
            fprintf(stderr, "not enrolled: give --code-file with the code that `hawser device add` printed\n");
            return 2;
        }
        fclose(f);
        code[strcspn(code, " \r\n")] = '\0';
        rc = hawser_enrol(serial, code, identity, &a);
        explicit_bzero(code, sizeof code);
        if (rc != HAWSER_OK)
            return troubled("enrolment", rc, &a);
        say("enrolled", "");
    }
    boot = count_start();
    for (;;) {
        uint32_t wait_ms = 3600000;
        if (renew_now || wants_renewal()) {
            if ((rc = hawser_renew(identity, next_identity, &a)) == HAWSER_OK) {
                say("renewed", "");
            } else {
                troubled("renewal", rc, &a);
                if (renew_now)
                    return 1;
                /* That ends nothing: the certificate is good for weeks. */
                try_again = time(NULL) + (a.retry_after_s > 0 ? a.retry_after_s : 3600);
            }
            renew_now = 0;
        }
        if ((rc = join(&client)) != 0) {
            fprintf(stderr, "no session (%d)\n", rc);
            return 1; /* your unit tries again: after 1 s, 2 s, 4 s … up to an hour, a little at random */
        }
        say("connected", "");
        do {
            for (i = 0; i < HAWSER_STREAMS; i++) {
                if ((rc = send_one(client, &hawser_streams[i], boot, ++seq)) != 0) {
                    fprintf(stderr, "%s: not sent (%d)\n", hawser_streams[i].name, rc);
                    return 1;
                }
                if (hawser_streams[i].every_ms < wait_ms)
                    wait_ms = hawser_streams[i].every_ms;
            }
            if (once) {
                sleep(1); /* for what is refused */
            } else {
                struct timespec t = {(time_t)(wait_ms / 1000), (long)(wait_ms % 1000) * 1000000};
                nanosleep(&t, NULL);
            }
        } while (!once && !wants_renewal());
        MQTTClient_disconnect(client, 1000);
        MQTTClient_destroy(&client);
        if (once)
            return refused ? 3 : 0;
    }
}
