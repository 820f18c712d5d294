/* A JSON object written into a buffer of fixed size: no heap, no printf of
 * floating point (small C libraries leave it out), no locale. */
#ifndef HAWSER_JSON_H
#define HAWSER_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the functions of hawser_readings.h give instead of a length. */
#define HAWSER_TOO_LONG (-1) /* the buffer or the stream's max_bytes is too small */
#define HAWSER_RANGE (-2)    /* a value outside its declared range, length or values */
#define HAWSER_EMPTY (-3)    /* no value is set */

typedef struct {
    char *out;
    size_t size, len;
    int fields, err;
} hawser_json;

/* When a reading was made, and its number. boot and seq together name it for
 * ever: a reading that is sent twice is stored once. boot must be higher after
 * each start (keep it in flash, written once a start); seq begins anew. t is in
 * Unix milliseconds; 0 when the clock is not set: the server then takes the
 * time of receipt. */
typedef struct {
    uint64_t t, boot, seq;
} hawser_stamp;

void hawser_json_begin(hawser_json *w, char *out, size_t size, const hawser_stamp *stamp);
void hawser_json_number(hawser_json *w, const char *name, double v, double min, double max, int decimals);
void hawser_json_integer(hawser_json *w, const char *name, int64_t v, int64_t min, int64_t max);
void hawser_json_boolean(hawser_json *w, const char *name, bool v);
/* min and max are in characters of UTF-8. */
void hawser_json_text(hawser_json *w, const char *name, const char *v, size_t min, size_t max);
/* The length without the final 0, or one of the codes above. */
int hawser_json_end(hawser_json *w, size_t max_bytes);

#ifdef __cplusplus
}
#endif
#endif
