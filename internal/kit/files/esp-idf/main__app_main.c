/* One unit on ESP-IDF 5: enrols over EST, connects with mutual TLS, sends,
 * listens, renews. Made by `hawser device kit`; a sketch to build on.
 *
 * In NVS, namespace "hawser": `serial` and `code` are written for each unit at
 * the factory (nvs_partition_gen.py); `code` is erased once it was used. `key`
 * is made here. Neither of them is ever logged. */
#include "hawser_enrol.h"
#include "hawser_readings.h"
#include "hawser_settings.h"

#include <esp_log.h>
#include <esp_netif.h>
#include <esp_netif_sntp.h>
#include <esp_random.h>
#include <esp_timer.h>
#include <freertos/FreeRTOS.h>
#include <freertos/event_groups.h>
#include <freertos/task.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/platform_util.h>
#include <mqtt_client.h>
#include <nvs.h>
#include <nvs_flash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static const char *TAG = "hawser";

/* Yours: brings Wi-Fi or Ethernet up and returns when there is an address. */
esp_err_t network_up(void);

enum { UP = BIT0, ACKED = BIT1, DOWN = BIT2 };
static EventGroupHandle_t events;
static int acked_id;
static time_t try_again; /* when to renew again, after a renewal that failed */

static nvs_handle_t nvs;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;
static char key[HAWSER_KEY_PEM], cert[HAWSER_CERT_PEM], key2[HAWSER_KEY_PEM], cert2[HAWSER_CERT_PEM];

static uint32_t now_ms(void)
{
    return (uint32_t)(esp_timer_get_time() / 1000);
}

static bool recall(const char *name, char *out, size_t size)
{
    out[0] = '\0';
    return nvs_get_str(nvs, name, out, &size) == ESP_OK && out[0] != '\0';
}

/* Enrols with the code, or renews with the present certificate. */
static int certify(bool renew)
{
    char serial[65], code[130] = "";
    mbedtls_net_context net;
    hawser_answer a = {0};
    hawser_io io = {.socket = &net, .send = mbedtls_net_send, .recv = mbedtls_net_recv_timeout, .now_ms = now_ms, .random = mbedtls_ctr_drbg_random, .random_ctx = &drbg};
    char port[8];
    int rc = HAWSER_E_SERVER;
    snprintf(port, sizeof port, "%d", HAWSER_EST_PORT);
    mbedtls_net_init(&net);
    if (mbedtls_net_connect(&net, HAWSER_EST_HOST, port, MBEDTLS_NET_PROTO_TCP) != 0 || (rc = hawser_key_new(&io, key2, sizeof key2)) != HAWSER_OK)
        ; /* rc says it */
    else if (renew)
        rc = hawser_renew(&io, cert, key, key2, cert2, sizeof cert2, &a);
    else if (!recall("serial", serial, sizeof serial) || !recall("code", code, sizeof code))
        rc = HAWSER_E_LOCAL;
    else
        rc = hawser_enrol(&io, serial, code, key2, cert2, sizeof cert2, &a);
    mbedtls_platform_zeroize(code, sizeof code);
    mbedtls_net_free(&net);
    if (rc != HAWSER_OK) {
        ESP_LOGE(TAG, "%s failed (%d, HTTP %d, TLS -0x%04x): %s", renew ? "renewal" : "enrolment", rc, a.status, (unsigned)-a.tls, a.said);
        cert2[0] = '\0';
        /* A renewal that fails ends nothing: the certificate is good for weeks. */
        try_again = time(NULL) + (a.retry_after_s > 0 ? a.retry_after_s : 3600);
        return rc;
    }
    /* Beside the old ones until the new certificate was used once. */
    if (nvs_set_str(nvs, "key2", key2) != ESP_OK || nvs_set_str(nvs, "cert2", cert2) != ESP_OK || nvs_commit(nvs) != ESP_OK)
        return HAWSER_E_LOCAL;
    return HAWSER_OK;
}

/* The new certificate was used: it is the one, and the code is spent. */
static void settle(void)
{
    memcpy(key, key2, sizeof key);
    memcpy(cert, cert2, sizeof cert);
    if (nvs_set_str(nvs, "key", key) == ESP_OK && nvs_set_str(nvs, "cert", cert) == ESP_OK && nvs_commit(nvs) == ESP_OK) {
        nvs_erase_key(nvs, "key2");
        nvs_erase_key(nvs, "cert2");
        nvs_erase_key(nvs, "code");
        nvs_commit(nvs);
    }
    key2[0] = cert2[0] = '\0';
}

static void on_mqtt(void *arg, esp_event_base_t base, int32_t id, void *data)
{
    (void)arg;
    (void)base;
    static const char *const topics[] = HAWSER_TOPICS;
    esp_mqtt_event_handle_t e = data;
    switch ((esp_mqtt_event_id_t)id) {
    case MQTT_EVENT_CONNECTED:
        for (int i = 0; i < HAWSER_TOPIC_COUNT; i++)
            esp_mqtt_client_subscribe(e->client, topics[i], 1);
        xEventGroupSetBits(events, UP);
        break;
    case MQTT_EVENT_DISCONNECTED:
        xEventGroupClearBits(events, UP);
        xEventGroupSetBits(events, DOWN);
        break;
    case MQTT_EVENT_PUBLISHED: /* the server has it for good */
        acked_id = e->msg_id;
        xEventGroupSetBits(events, ACKED);
        break;
    case MQTT_EVENT_DATA: /* `refused` says what was not taken, and why */
        ESP_LOGI(TAG, "%.*s: %.*s", e->topic_len, e->topic, e->data_len, e->data);
        break;
    default:
        break;
    }
}

static esp_mqtt_client_handle_t session(const char *c, const char *k)
{
    const esp_mqtt_client_config_t cfg = {
        .broker.address.hostname = HAWSER_HOST,
        .broker.address.port = HAWSER_MQTT_PORT,
        .broker.address.transport = MQTT_TRANSPORT_OVER_SSL,
        .broker.verification.certificate = HAWSER_ROOTS,
        .credentials.set_null_client_id = true, /* the certificate says who it is */
        .credentials.authentication.certificate = c,
        .credentials.authentication.key = k,
        .session.keepalive = HAWSER_KEEP_ALIVE,
        .session.protocol_ver = MQTT_PROTOCOL_V_3_1_1,
        .network.reconnect_timeout_ms = 30000,
    };
    esp_mqtt_client_handle_t m = esp_mqtt_client_init(&cfg);
    xEventGroupClearBits(events, UP | DOWN | ACKED);
    if (m == NULL || esp_mqtt_client_register_event(m, ESP_EVENT_ANY_ID, on_mqtt, NULL) != ESP_OK || esp_mqtt_client_start(m) != ESP_OK)
        return m;
    xEventGroupWaitBits(events, UP | DOWN, pdFALSE, pdFALSE, pdMS_TO_TICKS(60000));
    return m;
}

static bool is_up(void)
{
    return (xEventGroupGetBits(events) & UP) != 0;
}

/* Two thirds of the certificate's life are over. */
static bool due(void)
{
    return cert2[0] == '\0' && time(NULL) >= try_again &&
           hawser_certificate_left(cert, (int64_t)time(NULL)) < (int64_t)HAWSER_CERTIFICATE_DAYS * 86400 / 3;
}

static void send_all(esp_mqtt_client_handle_t m, uint64_t boot, uint64_t *seq)
{
    static char text[HAWSER_MAX_MESSAGE + 1];
    for (int i = 0; i < HAWSER_STREAMS; i++) {
        struct timeval now;
        gettimeofday(&now, NULL);
        hawser_stamp stamp = {(uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_usec / 1000, boot, ++*seq};
        int n = hawser_streams[i].example(text, sizeof text, &stamp); /* put your readings here */
        if (n < 0) {
            ESP_LOGE(TAG, "%s: a reading outside its declaration (%d)", hawser_streams[i].name, n);
            continue;
        }
        xEventGroupClearBits(events, ACKED);
        int id = esp_mqtt_client_publish(m, hawser_streams[i].topic, text, n, 1, 0);
        if ((xEventGroupWaitBits(events, ACKED, pdTRUE, pdFALSE, pdMS_TO_TICKS(30000)) & ACKED) == 0 || acked_id != id)
            ESP_LOGW(TAG, "%s: no answer yet; the client sends it again", hawser_streams[i].name);
    }
}

void app_main(void)
{
    uint64_t boot = 0, seq = 0;
    uint32_t every = 3600000;
    esp_mqtt_client_handle_t m;
    ESP_ERROR_CHECK(nvs_flash_init());
    ESP_ERROR_CHECK(nvs_open("hawser", NVS_READWRITE, &nvs));
    ESP_ERROR_CHECK(esp_netif_init());
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    events = xEventGroupCreate();
    ESP_ERROR_CHECK(network_up());
    /* Without the time no certificate can be checked. */
    esp_sntp_config_t sntp = ESP_NETIF_SNTP_DEFAULT_CONFIG(HAWSER_NTP_HOST);
    ESP_ERROR_CHECK(esp_netif_sntp_init(&sntp));
    while (esp_netif_sntp_sync_wait(pdMS_TO_TICKS(10000)) != ESP_OK)
        ESP_LOGW(TAG, "waiting for the time");
    /* The radio is on: the chip's random numbers are good from here. */
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    if (mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0) != 0)
        abort();
    /* Written once a start, not once a reading: flash wears out. */
    nvs_get_u64(nvs, "boot", &boot);
    boot++;
    ESP_ERROR_CHECK(nvs_set_u64(nvs, "boot", boot));
    ESP_ERROR_CHECK(nvs_commit(nvs));
    recall("key", key, sizeof key);
    recall("cert", cert, sizeof cert);
    recall("key2", key2, sizeof key2);
    recall("cert2", cert2, sizeof cert2);
    for (int i = 0; i < HAWSER_STREAMS; i++)
        if (hawser_streams[i].every_ms < every)
            every = hawser_streams[i].every_ms;
    for (uint32_t pause = 1000;; pause = pause < 1800000 ? pause * 2 : 3600000) {
        if ((cert[0] == '\0' && cert2[0] == '\0') || (cert[0] != '\0' && due()))
            certify(cert[0] != '\0');
        m = NULL;
        if (cert2[0] != '\0') {
            m = session(cert2, key2);
            if (is_up()) {
                settle();
            } else {
                esp_mqtt_client_destroy(m);
                m = NULL;
            }
        }
        if (m == NULL && cert[0] != '\0')
            m = session(cert, key);
        while (m != NULL && is_up() && !due()) {
            pause = 1000;
            send_all(m, boot, &seq);
            vTaskDelay(pdMS_TO_TICKS(every));
        }
        if (m != NULL)
            esp_mqtt_client_destroy(m);
        vTaskDelay(pdMS_TO_TICKS(pause / 2 + esp_random() % pause));
    }
}
