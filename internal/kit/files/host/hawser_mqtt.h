/* As much of MQTT 3.1.1 as one unit needs: connect, subscribe, publish at QoS 1,
 * hear, ping. For trying a kit on a Linux machine; on a chip use the platform's
 * own client. */
#ifndef HAWSER_MQTT_H
#define HAWSER_MQTT_H

#include "hawser_enrol.h"

#define HAWSER_MQTT_MAX 8192 /* bytes of a packet */

typedef struct {
    hawser_tls *tls;
    uint16_t id; /* of the last packet */
    /* Called for each message to the unit. text is not terminated. */
    void (*heard)(void *ctx, const char *topic, size_t topic_len, const char *text, size_t len);
    void *ctx;
    unsigned char in[HAWSER_MQTT_MAX];
} hawser_mqtt;

/* All give 0, a negative error of Mbed TLS, or a positive one: */
enum {
    HAWSER_MQTT_BROKEN = 1,  /* the other side says what is no MQTT */
    HAWSER_MQTT_REFUSED = 2, /* CONNACK or SUBACK say no */
};

int hawser_mqtt_connect(hawser_mqtt *m, uint16_t keep_alive_s);
int hawser_mqtt_subscribe(hawser_mqtt *m, const char *const *topics, size_t n);
/* Returns when the server has the message for good. */
int hawser_mqtt_publish(hawser_mqtt *m, const char *topic, const char *message, size_t len);
/* Waits until the tls's limit for messages; a limit that is over is no error. */
int hawser_mqtt_listen(hawser_mqtt *m);
int hawser_mqtt_disconnect(hawser_mqtt *m);

#endif
