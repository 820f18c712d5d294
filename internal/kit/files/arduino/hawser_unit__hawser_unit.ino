/* One unit on an ESP32 with Arduino: enrols over EST, connects with mutual TLS,
 * sends, listens, renews. Made by `hawser device kit`; a sketch to build on.
 *
 * Library: "MQTT" by Joël Gähwiler (256dpi). PubSubClient publishes at QoS 0
 * only: a reading that is lost on the way would never be noticed.
 *
 * In Preferences, namespace "hawser": `serial` and `code` are written for each
 * unit at the factory; `code` is erased once it was used. `key` is made here.
 * Neither of them is ever printed. */
#include <MQTT.h>
#include <Preferences.h>
#include <WiFi.h>
#include <WiFiClientSecure.h>
#include <esp_random.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <sys/time.h>
#include <time.h>

#include "hawser_enrol.h"
#include "hawser_readings.h"
#include "hawser_settings.h"

/* Yours: WiFi.begin with what the owner gave, and wait for an address. */
void network_up();

static Preferences kept;
static WiFiClientSecure net;
static MQTTClient mqtt(1024, HAWSER_MAX_MESSAGE + 128);
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;
static String key, cert, key2, cert2;
static uint64_t boot_count, seq;
static time_t try_again; /* when to look again whether the certificate is to be renewed */

static uint32_t now_ms(void)
{
    return millis();
}

/* Enrols with the code, or renews with the present certificate. */
static bool certify(bool renew)
{
    static char new_key[HAWSER_KEY_PEM], new_cert[HAWSER_CERT_PEM];
    mbedtls_net_context s;
    hawser_answer a = {};
    hawser_io io = {};
    char port[8];
    int rc = HAWSER_E_SERVER;
    io.socket = &s;
    io.send = mbedtls_net_send;
    io.recv = mbedtls_net_recv_timeout;
    io.now_ms = now_ms;
    io.random = mbedtls_ctr_drbg_random;
    io.random_ctx = &drbg;
    snprintf(port, sizeof port, "%d", HAWSER_EST_PORT);
    mbedtls_net_init(&s);
    if (mbedtls_net_connect(&s, HAWSER_EST_HOST, port, MBEDTLS_NET_PROTO_TCP) == 0 && (rc = hawser_key_new(&io, new_key, sizeof new_key)) == HAWSER_OK) {
        if (renew)
            rc = hawser_renew(&io, cert.c_str(), key.c_str(), new_key, new_cert, sizeof new_cert, &a);
        else
            rc = hawser_enrol(&io, kept.getString("serial").c_str(), kept.getString("code").c_str(), new_key, new_cert, sizeof new_cert, &a);
    }
    mbedtls_net_free(&s);
    if (rc != HAWSER_OK) {
        Serial.printf("%s failed (%d, HTTP %d, TLS %d): %s\n", renew ? "renewal" : "enrolment", rc, a.status, a.tls, a.said);
        return false;
    }
    key2 = new_key;
    cert2 = new_cert;
    memset(new_key, 0, sizeof new_key);
    /* Beside the old ones until the new certificate was used once. */
    return kept.putString("key2", key2) > 0 && kept.putString("cert2", cert2) > 0;
}

/* `refused` says what was not taken, and why. */
static void heard(String &topic, String &text)
{
    Serial.printf("%s: %s\n", topic.c_str(), text.c_str());
}

static bool session(const String &c, const String &k)
{
    static const char *const topics[] = HAWSER_TOPICS;
    net.stop();
    net.setCACert(HAWSER_ROOTS);
    net.setCertificate(c.c_str());
    net.setPrivateKey(k.c_str());
    mqtt.begin(HAWSER_HOST, HAWSER_MQTT_PORT, net);
    mqtt.onMessage(heard);
    mqtt.setOptions(HAWSER_KEEP_ALIVE, true, 30000);
    if (!mqtt.connect("")) /* the certificate says who it is */
        return false;
    for (int i = 0; i < HAWSER_TOPIC_COUNT; i++)
        mqtt.subscribe(topics[i], 1);
    return true;
}

/* Two thirds of the certificate's life are over. */
static bool due()
{
    if (cert.isEmpty() || !cert2.isEmpty() || time(NULL) < try_again)
        return false;
    /* Once an hour: a renewal that fails ends nothing, the certificate is good
     * for weeks. */
    try_again = time(NULL) + 3600;
    return hawser_certificate_left(cert.c_str(), time(NULL)) < (int64_t)HAWSER_CERTIFICATE_DAYS * 86400 / 3;
}

static bool join(bool renew)
{
    if (renew || (cert.isEmpty() && cert2.isEmpty()))
        certify(!cert.isEmpty()); /* says itself what is wrong */
    if (!cert2.isEmpty() && session(cert2, key2)) { /* its first use ended the old one */
        key = key2;
        cert = cert2;
        if (kept.putString("key", key) > 0 && kept.putString("cert", cert) > 0) {
            kept.remove("key2");
            kept.remove("cert2");
            kept.remove("code");
        }
        key2 = cert2 = "";
        return true;
    }
    return !cert.isEmpty() && session(cert, key);
}

void setup()
{
    Serial.begin(115200);
    kept.begin("hawser");
    network_up();
    configTime(0, 0, HAWSER_NTP_HOST);
    while (time(NULL) < 1735689600) /* without the time no certificate can be checked */
        delay(500);
    /* The radio is on: the chip's random numbers are good from here. */
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    if (mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0) != 0)
        abort();
    boot_count = kept.getULong64("boot") + 1; /* written once a start: flash wears out */
    kept.putULong64("boot", boot_count);
    key = kept.getString("key");
    cert = kept.getString("cert");
    key2 = kept.getString("key2");
    cert2 = kept.getString("cert2");
}

void loop()
{
    static char text[HAWSER_MAX_MESSAGE + 1];
    static uint32_t pause = 1000, next[HAWSER_STREAMS + 1];
    bool renew = due();
    if (!mqtt.connected() || renew) {
        mqtt.disconnect();
        if (!join(renew)) {
            delay(pause / 2 + esp_random() % pause);
            pause = pause < 1800000 ? pause * 2 : 3600000;
            return;
        }
        pause = 1000;
    }
    for (int i = 0; i < HAWSER_STREAMS; i++) {
        struct timeval now;
        if ((int32_t)(millis() - next[i]) < 0)
            continue;
        gettimeofday(&now, NULL);
        hawser_stamp stamp = {(uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_usec / 1000, boot_count, ++seq};
        int n = hawser_streams[i].example(text, sizeof text, &stamp); /* put your readings here */
        /* At QoS 1: returns when the server has it for good. */
        if (n < 0 || !mqtt.publish(hawser_streams[i].topic, text, n, false, 1))
            Serial.printf("%s: not sent (%d)\n", hawser_streams[i].name, n);
        next[i] = millis() + hawser_streams[i].every_ms;
    }
    mqtt.loop();
    delay(10);
}
