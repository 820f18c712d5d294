/* One unit on Zephyr: enrols over EST, connects with mutual TLS, sends, listens,
 * renews. Made by `hawser device kit`; a sketch to build on.
 *
 * In the settings, under "hawser": `serial` and `code` are written for each unit
 * at the factory; `code` is deleted once it was used. `key` is made here.
 * Neither of them is ever logged. */
#include "hawser_enrol.h"
#include "hawser_readings.h"
#include "hawser_settings.h"

#include <errno.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/net/mqtt.h>
#include <zephyr/net/sntp.h>
#include <zephyr/net/socket.h>
#include <zephyr/net/tls_credentials.h>
#include <zephyr/random/random.h>
#include <zephyr/settings/settings.h>

LOG_MODULE_REGISTER(hawser, LOG_LEVEL_INF);

/* Yours: returns when there is an address. */
int network_up(void);

#define TAG 1 /* of our credentials */

static char serial[65], code[130], key[HAWSER_KEY_PEM], cert[HAWSER_CERT_PEM], key2[HAWSER_KEY_PEM], cert2[HAWSER_CERT_PEM];
static uint64_t boot_count;
static int64_t clock_offset_ms; /* Unix time minus uptime */
static int64_t try_again;       /* uptime at which to renew again, after a renewal that failed */

static const struct {
    const char *name;
    void *at;
    size_t size;
} kept[] = {{"serial", serial, sizeof serial}, {"code", code, sizeof code}, {"key", key, sizeof key},     {"cert", cert, sizeof cert},
            {"key2", key2, sizeof key2},       {"cert2", cert2, sizeof cert2}, {"boot", &boot_count, sizeof boot_count}};

static int on_setting(const char *name, size_t len, settings_read_cb read, void *arg)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        if (strcmp(name, kept[i].name) == 0 && len <= kept[i].size)
            return read(arg, kept[i].at, len) < 0 ? -EIO : 0;
    return -ENOENT;
}

SETTINGS_STATIC_HANDLER_DEFINE(hawser, "hawser", NULL, on_setting, NULL, NULL);

static uint32_t now_ms(void)
{
    return k_uptime_get_32();
}

static int random_bytes(void *ctx, unsigned char *p, size_t n)
{
    ARG_UNUSED(ctx);
    return sys_csrand_get(p, n);
}

static int net_send(void *ctx, const unsigned char *p, size_t n)
{
    ssize_t r = zsock_send(*(int *)ctx, p, n, 0);
    return r < 0 ? MBEDTLS_ERR_SSL_INTERNAL_ERROR : (int)r;
}

static int net_recv(void *ctx, unsigned char *p, size_t n, uint32_t limit_ms)
{
    struct zsock_pollfd f = {.fd = *(int *)ctx, .events = ZSOCK_POLLIN};
    int rc = zsock_poll(&f, 1, (int)limit_ms);
    if (rc == 0)
        return MBEDTLS_ERR_SSL_TIMEOUT;
    ssize_t r = rc < 0 ? -1 : zsock_recv(f.fd, p, n, 0);
    return r < 0 ? MBEDTLS_ERR_SSL_INTERNAL_ERROR : (int)r;
}

static int resolve(const char *host, int port, struct sockaddr *addr, socklen_t *len)
{
    struct zsock_addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    char text[8];
    snprintf(text, sizeof text, "%d", port);
    if (zsock_getaddrinfo(host, text, &hints, &found) != 0 || found == NULL)
        return -EHOSTUNREACH;
    memcpy(addr, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    zsock_freeaddrinfo(found);
    return 0;
}

/* Enrols with the code, or renews with the present certificate. */
static int certify(bool renew)
{
    struct sockaddr addr;
    socklen_t len;
    hawser_answer a = {0};
    int fd = -1, rc = HAWSER_E_SERVER;
    hawser_io io = {.socket = &fd, .send = net_send, .recv = net_recv, .now_ms = now_ms, .random = random_bytes};
    if (resolve(HAWSER_EST_HOST, HAWSER_EST_PORT, &addr, &len) == 0 && (fd = zsock_socket(addr.sa_family, SOCK_STREAM, IPPROTO_TCP)) >= 0 &&
        zsock_connect(fd, &addr, len) == 0 && (rc = hawser_key_new(&io, key2, sizeof key2)) == HAWSER_OK)
        rc = renew ? hawser_renew(&io, cert, key, key2, cert2, sizeof cert2, &a) : hawser_enrol(&io, serial, code, key2, cert2, sizeof cert2, &a);
    if (fd >= 0)
        zsock_close(fd);
    if (rc != HAWSER_OK) {
        LOG_ERR("%s failed (%d, HTTP %d, TLS %d): %s", renew ? "renewal" : "enrolment", rc, a.status, a.tls, a.said);
        cert2[0] = '\0';
        /* A renewal that fails ends nothing: the certificate is good for weeks. */
        try_again = k_uptime_get() + (int64_t)(a.retry_after_s > 0 ? a.retry_after_s : 3600) * 1000;
        return rc;
    }
    /* Beside the old ones until the new certificate was used once. */
    if (settings_save_one("hawser/key2", key2, strlen(key2) + 1) != 0 || settings_save_one("hawser/cert2", cert2, strlen(cert2) + 1) != 0)
        return HAWSER_E_LOCAL;
    return HAWSER_OK;
}

/* The new certificate was used: it is the one, and the code is spent. */
static void settle(void)
{
    memcpy(key, key2, sizeof key);
    memcpy(cert, cert2, sizeof cert);
    if (settings_save_one("hawser/key", key, strlen(key) + 1) == 0 && settings_save_one("hawser/cert", cert, strlen(cert) + 1) == 0) {
        settings_delete("hawser/key2");
        settings_delete("hawser/cert2");
        settings_delete("hawser/code");
    }
    mbedtls_platform_zeroize(code, sizeof code);
    key2[0] = cert2[0] = '\0';
}

static struct mqtt_client client;
static bool up;
static uint16_t acked;

static void on_mqtt(struct mqtt_client *c, const struct mqtt_evt *e)
{
    static uint8_t text[512];
    switch (e->type) {
    case MQTT_EVT_CONNACK:
        up = e->result == 0;
        break;
    case MQTT_EVT_DISCONNECT:
        up = false;
        break;
    case MQTT_EVT_PUBACK: /* the server has it for good */
        acked = e->param.puback.message_id;
        break;
    case MQTT_EVT_PUBLISH: { /* `refused` says what was not taken, and why */
        const struct mqtt_publish_param *p = &e->param.publish;
        uint32_t left = p->message.payload.len;
        LOG_INF("message on %.*s, %u bytes", (int)p->message.topic.topic.size, p->message.topic.topic.utf8, (unsigned)left);
        while (left > 0) {
            int n = mqtt_read_publish_payload_blocking(c, text, MIN(left, sizeof text));
            if (n <= 0)
                break;
            LOG_HEXDUMP_INF(text, n, "payload");
            left -= (uint32_t)n;
        }
        if (p->message.topic.qos == MQTT_QOS_1_AT_LEAST_ONCE) {
            struct mqtt_puback_param ack = {.message_id = p->message_id};
            mqtt_publish_qos1_ack(c, &ack);
        }
        break;
    }
    default:
        break;
    }
}

/* Handles what comes until a condition holds or the time is over. */
static bool wait_for(const bool *flag, uint16_t ack, int ms)
{
    int64_t until = k_uptime_get() + ms;
    while (!(flag != NULL ? *flag : acked == ack)) {
        int64_t left = until - k_uptime_get();
        struct zsock_pollfd f = {.fd = client.transport.tls.sock, .events = ZSOCK_POLLIN};
        if (left <= 0)
            return false;
        if (zsock_poll(&f, 1, (int)MIN(left, 1000)) > 0 && mqtt_input(&client) != 0)
            return false;
        int rc = mqtt_live(&client);
        if (rc != 0 && rc != -EAGAIN)
            return false;
    }
    return true;
}

static bool session(const char *c, const char *k)
{
    static uint8_t rx[1024], tx[HAWSER_MAX_MESSAGE + 128];
    static struct sockaddr_storage broker;
    static const sec_tag_t tags[] = {TAG};
    static const char roots[] = HAWSER_ROOTS;
    static const char *const topics[] = HAWSER_TOPICS;
    struct mqtt_topic list[HAWSER_TOPIC_COUNT];
    socklen_t len;
    tls_credential_delete(TAG, TLS_CREDENTIAL_CA_CERTIFICATE);
    tls_credential_delete(TAG, TLS_CREDENTIAL_PUBLIC_CERTIFICATE);
    tls_credential_delete(TAG, TLS_CREDENTIAL_PRIVATE_KEY);
    if (tls_credential_add(TAG, TLS_CREDENTIAL_CA_CERTIFICATE, roots, sizeof roots) != 0 ||
        tls_credential_add(TAG, TLS_CREDENTIAL_PUBLIC_CERTIFICATE, c, strlen(c) + 1) != 0 ||
        tls_credential_add(TAG, TLS_CREDENTIAL_PRIVATE_KEY, k, strlen(k) + 1) != 0 ||
        resolve(HAWSER_HOST, HAWSER_MQTT_PORT, (struct sockaddr *)&broker, &len) != 0)
        return false;
    mqtt_client_init(&client);
    client.broker = &broker;
    client.evt_cb = on_mqtt;
    client.client_id.utf8 = (uint8_t *)""; /* the certificate says who it is */
    client.client_id.size = 0;
    client.protocol_version = MQTT_VERSION_3_1_1;
    client.keepalive = HAWSER_KEEP_ALIVE;
    client.rx_buf = rx;
    client.rx_buf_size = sizeof rx;
    client.tx_buf = tx;
    client.tx_buf_size = sizeof tx;
    client.transport.type = MQTT_TRANSPORT_SECURE;
    client.transport.tls.config.peer_verify = TLS_PEER_VERIFY_REQUIRED;
    client.transport.tls.config.sec_tag_list = tags;
    client.transport.tls.config.sec_tag_count = ARRAY_SIZE(tags);
    client.transport.tls.config.hostname = HAWSER_HOST;
    up = false;
    if (mqtt_connect(&client) != 0)
        return false;
    if (!wait_for(&up, 0, 30000)) {
        mqtt_abort(&client);
        return false;
    }
    for (int i = 0; i < HAWSER_TOPIC_COUNT; i++) {
        list[i].topic.utf8 = (const uint8_t *)topics[i];
        list[i].topic.size = strlen(topics[i]);
        list[i].qos = MQTT_QOS_1_AT_LEAST_ONCE;
    }
    const struct mqtt_subscription_list all = {.list = list, .list_count = HAWSER_TOPIC_COUNT, .message_id = 1};
    return mqtt_subscribe(&client, &all) == 0;
}

static bool send_all(uint64_t *seq, uint16_t *id)
{
    static char text[HAWSER_MAX_MESSAGE + 1];
    for (int i = 0; i < HAWSER_STREAMS; i++) {
        hawser_stamp stamp = {(uint64_t)(k_uptime_get() + clock_offset_ms), boot_count, ++*seq};
        int n = hawser_streams[i].example(text, sizeof text, &stamp); /* put your readings here */
        if (n < 0) {
            LOG_ERR("%s: a reading outside its declaration (%d)", hawser_streams[i].name, n);
            continue;
        }
        if (++*id < 2)
            *id = 2;
        struct mqtt_publish_param p = {.message_id = *id};
        p.message.topic.qos = MQTT_QOS_1_AT_LEAST_ONCE;
        p.message.topic.topic.utf8 = (const uint8_t *)hawser_streams[i].topic;
        p.message.topic.topic.size = strlen(hawser_streams[i].topic);
        p.message.payload.data = (uint8_t *)text;
        p.message.payload.len = (uint32_t)n;
        if (mqtt_publish(&client, &p) != 0 || !wait_for(NULL, *id, 30000))
            return false; /* keep the reading and send it again, with the same boot and seq */
    }
    return true;
}

/* Two thirds of the certificate's life are over. */
static bool due(void)
{
    return cert2[0] == '\0' && k_uptime_get() >= try_again &&
           hawser_certificate_left(cert, (k_uptime_get() + clock_offset_ms) / 1000) < (int64_t)HAWSER_CERTIFICATE_DAYS * 86400 / 3;
}

int main(void)
{
    uint64_t seq = 0;
    uint16_t id = 1;
    uint32_t every = 3600000;
    struct sntp_time t;
    if (settings_subsys_init() != 0 || settings_load_subtree("hawser") != 0 || network_up() != 0)
        return 1;
    while (sntp_simple(HAWSER_NTP_HOST, 10000, &t) != 0) /* without the time no certificate can be checked */
        LOG_WRN("waiting for the time");
    clock_offset_ms = (int64_t)t.seconds * 1000 - k_uptime_get();
    struct timespec ts = {.tv_sec = (time_t)t.seconds};
    clock_settime(CLOCK_REALTIME, &ts); /* Mbed TLS asks it */
    boot_count++; /* written once a start, not once a reading: flash wears out */
    settings_save_one("hawser/boot", &boot_count, sizeof boot_count);
    for (int i = 0; i < HAWSER_STREAMS; i++)
        every = MIN(every, hawser_streams[i].every_ms);
    for (uint32_t pause = 1000;; pause = MIN(pause * 2, 3600000)) {
        bool on = false;
        if ((cert[0] == '\0' && cert2[0] == '\0') || (cert[0] != '\0' && due()))
            (void)certify(cert[0] != '\0'); /* says itself what is wrong */
        if (cert2[0] != '\0' && (on = session(cert2, key2)))
            settle();
        if (!on && cert[0] != '\0')
            on = session(cert, key);
        while (on && !due() && (on = send_all(&seq, &id))) {
            pause = 1000;
            (void)wait_for(NULL, 0, (int)every); /* listens until the next reading */
        }
        if (up)
            mqtt_disconnect(&client, NULL);
        k_msleep((int32_t)(pause / 2 + sys_rand32_get() % pause));
    }
}
