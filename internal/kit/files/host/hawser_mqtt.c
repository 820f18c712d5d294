#include "hawser_mqtt.h"

#include <string.h>

enum { CONNECT = 0x10, CONNACK = 0x20, PUBLISH = 0x30, PUBACK = 0x40, SUBSCRIBE = 0x82, SUBACK = 0x90, DISCONNECT = 0xe0 };

/* Appends a fixed header; the rest must be shorter than 2 MB. */
static size_t head(unsigned char *p, unsigned char type, size_t rest)
{
    size_t n = 0;
    p[n++] = type;
    do {
        p[n] = (unsigned char)(rest & 0x7f);
        rest >>= 7;
        if (rest > 0)
            p[n] |= 0x80;
        n++;
    } while (rest > 0);
    return n;
}

static size_t put_string(unsigned char *p, const char *s, size_t len)
{
    p[0] = (unsigned char)(len >> 8);
    p[1] = (unsigned char)len;
    memcpy(p + 2, s, len);
    return len + 2;
}

static int read_all(hawser_mqtt *m, unsigned char *p, size_t n)
{
    while (n > 0) {
        int rc = hawser_tls_read(m->tls, p, n);
        if (rc < 0)
            return rc;
        if (rc == 0)
            return HAWSER_MQTT_BROKEN;
        p += rc;
        n -= (size_t)rc;
    }
    return 0;
}

/* Reads one packet into m->in; what is too long ends the session. */
static int packet(hawser_mqtt *m, unsigned char *type, size_t *len)
{
    unsigned char c;
    int rc, shift = 0;
    if ((rc = read_all(m, type, 1)) != 0)
        return rc;
    *len = 0;
    do {
        if (shift > 21)
            return HAWSER_MQTT_BROKEN;
        if ((rc = read_all(m, &c, 1)) != 0)
            return rc;
        *len |= (size_t)(c & 0x7f) << shift;
        shift += 7;
    } while ((c & 0x80) != 0);
    if (*len > sizeof m->in)
        return HAWSER_MQTT_BROKEN;
    return read_all(m, m->in, *len);
}

/* Hands a message on; answers one of QoS 1. */
static int message(hawser_mqtt *m, unsigned char type, size_t len)
{
    size_t topic, at;
    int qos = type >> 1 & 3;
    if (len < 2)
        return HAWSER_MQTT_BROKEN;
    topic = (size_t)m->in[0] << 8 | m->in[1];
    at = 2 + topic + (qos > 0 ? 2 : 0);
    if (at > len || qos > 1)
        return HAWSER_MQTT_BROKEN;
    if (m->heard != NULL)
        m->heard(m->ctx, (const char *)m->in + 2, topic, (const char *)m->in + at, len - at);
    if (qos == 1) {
        unsigned char ack[4] = {PUBACK, 2, m->in[at - 2], m->in[at - 1]};
        return hawser_tls_write(m->tls, ack, sizeof ack);
    }
    return 0;
}

/* Reads until a packet of one type comes; messages in between are handed on. */
static int await(hawser_mqtt *m, unsigned char want, size_t *len)
{
    for (;;) {
        unsigned char type;
        int rc = packet(m, &type, len);
        if (rc != 0)
            return rc;
        if (type == want)
            return 0;
        if ((type & 0xf0) == PUBLISH && (rc = message(m, type, *len)) != 0)
            return rc;
    }
}

int hawser_mqtt_connect(hawser_mqtt *m, uint16_t keep_alive_s)
{
    unsigned char out[32];
    size_t len, n = head(out, CONNECT, 12);
    int rc;
    n += put_string(out + n, "MQTT", 4);
    out[n++] = 4; /* 3.1.1 */
    out[n++] = 2; /* a clean session, no user name: the certificate says who it is */
    out[n++] = (unsigned char)(keep_alive_s >> 8);
    out[n++] = (unsigned char)keep_alive_s;
    n += put_string(out + n, "", 0);
    if ((rc = hawser_tls_write(m->tls, out, n)) != 0 || (rc = await(m, CONNACK, &len)) != 0)
        return rc;
    return len == 2 && m->in[1] == 0 ? 0 : HAWSER_MQTT_REFUSED;
}

int hawser_mqtt_subscribe(hawser_mqtt *m, const char *const *topics, size_t n)
{
    unsigned char out[512], body[500];
    size_t i, len = 2, at;
    int rc;
    m->id++;
    body[0] = (unsigned char)(m->id >> 8);
    body[1] = (unsigned char)m->id;
    for (i = 0; i < n; i++) {
        if (len + strlen(topics[i]) + 3 > sizeof body)
            return HAWSER_MQTT_BROKEN;
        len += put_string(body + len, topics[i], strlen(topics[i]));
        body[len++] = 1;
    }
    at = head(out, SUBSCRIBE, len);
    memcpy(out + at, body, len);
    if ((rc = hawser_tls_write(m->tls, out, at + len)) != 0 || (rc = await(m, SUBACK, &len)) != 0)
        return rc;
    for (i = 2; i < len; i++)
        if (m->in[i] > 1)
            return HAWSER_MQTT_REFUSED;
    return len == n + 2 ? 0 : HAWSER_MQTT_BROKEN;
}

int hawser_mqtt_publish(hawser_mqtt *m, const char *topic, const char *text, size_t len)
{
    unsigned char out[HAWSER_MQTT_MAX];
    size_t n, rest = 2 + strlen(topic) + 2 + len;
    int rc;
    if (rest > sizeof out - 5)
        return HAWSER_MQTT_BROKEN;
    if (++m->id == 0)
        m->id = 1;
    n = head(out, PUBLISH | 2, rest);
    n += put_string(out + n, topic, strlen(topic));
    out[n++] = (unsigned char)(m->id >> 8);
    out[n++] = (unsigned char)m->id;
    memcpy(out + n, text, len);
    if ((rc = hawser_tls_write(m->tls, out, n + len)) != 0)
        return rc;
    do {
        if ((rc = await(m, PUBACK, &rest)) != 0)
            return rc;
    } while (rest != 2 || m->in[0] != (unsigned char)(m->id >> 8) || m->in[1] != (unsigned char)m->id);
    return 0;
}

int hawser_mqtt_listen(hawser_mqtt *m)
{
    size_t len;
    int rc = await(m, 0, &len);
    return rc == MBEDTLS_ERR_SSL_TIMEOUT ? 0 : rc;
}

int hawser_mqtt_disconnect(hawser_mqtt *m)
{
    static const unsigned char out[2] = {DISCONNECT, 0};
    return hawser_tls_write(m->tls, out, sizeof out);
}
