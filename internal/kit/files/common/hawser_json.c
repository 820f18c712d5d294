#include "hawser_json.h"

#include <string.h>

static void put(hawser_json *w, const char *s, size_t n)
{
    if (w->err != 0)
        return;
    if (n >= w->size - w->len) { /* one byte stays free for the final 0 */
        w->err = HAWSER_TOO_LONG;
        return;
    }
    memcpy(w->out + w->len, s, n);
    w->len += n;
}

static void put_unsigned(hawser_json *w, uint64_t v)
{
    char digits[20];
    size_t i = sizeof digits;
    do {
        digits[--i] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    put(w, digits + i, sizeof digits - i);
}

static void put_string(hawser_json *w, const char *s)
{
    static const char hex[] = "0123456789abcdef";
    put(w, "\"", 1);
    for (; *s != '\0' && w->err == 0; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            char e[2] = {'\\', (char)c};
            put(w, e, 2);
        } else if (c < 0x20) {
            char e[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            put(w, e, 6);
        } else {
            put(w, s, 1);
        }
    }
    put(w, "\"", 1);
}

static void key(hawser_json *w, const char *name)
{
    if (w->len > 1)
        put(w, ",", 1);
    put_string(w, name);
    put(w, ":", 1);
}

static void stamp_part(hawser_json *w, const char *name, uint64_t v)
{
    key(w, name);
    put_unsigned(w, v);
}

void hawser_json_begin(hawser_json *w, char *out, size_t size, const hawser_stamp *stamp)
{
    w->out = out;
    w->size = size;
    w->len = 0;
    w->fields = 0;
    w->err = out == NULL || size == 0 ? HAWSER_TOO_LONG : 0;
    put(w, "{", 1);
    if (stamp == NULL)
        return;
    if (stamp->t != 0)
        stamp_part(w, "t", stamp->t);
    stamp_part(w, "boot", stamp->boot);
    stamp_part(w, "seq", stamp->seq);
}

static void fail(hawser_json *w, int err)
{
    if (w->err == 0)
        w->err = err;
}

void hawser_json_number(hawser_json *w, const char *name, double v, double min, double max, int decimals)
{
    double scale = 1, scaled;
    uint64_t n, unit = 1;
    char fraction[10];
    int i;
    w->fields++;
    if (!(v >= min && v <= max)) { /* true of "not a number" as well */
        fail(w, HAWSER_RANGE);
        return;
    }
    if (decimals > 9)
        decimals = 9;
    for (i = 0; i < decimals; i++) {
        scale *= 10;
        unit *= 10;
    }
    /* As many decimals as a double has for a number of this size. */
    while (decimals > 0 && (v * scale > 9e15 || v * scale < -9e15)) {
        decimals--;
        scale /= 10;
        unit /= 10;
    }
    scaled = v * scale;
    if (scaled > 9e15 || scaled < -9e15) { /* no double of this size has a fraction, nor every integer */
        fail(w, HAWSER_RANGE);
        return;
    }
    key(w, name);
    n = (uint64_t)((scaled < 0 ? -scaled : scaled) + 0.5);
    if (scaled < 0 && n > 0)
        put(w, "-", 1);
    put_unsigned(w, n / unit);
    n %= unit;
    if (n == 0)
        return;
    for (i = decimals; i > 0; i--) {
        fraction[i - 1] = (char)('0' + n % 10);
        n /= 10;
    }
    while (decimals > 0 && fraction[decimals - 1] == '0')
        decimals--;
    put(w, ".", 1);
    put(w, fraction, (size_t)decimals);
}

void hawser_json_integer(hawser_json *w, const char *name, int64_t v, int64_t min, int64_t max)
{
    w->fields++;
    if (v < min || v > max) {
        fail(w, HAWSER_RANGE);
        return;
    }
    key(w, name);
    if (v < 0)
        put(w, "-", 1);
    put_unsigned(w, v < 0 ? (uint64_t)0 - (uint64_t)v : (uint64_t)v);
}

void hawser_json_boolean(hawser_json *w, const char *name, bool v)
{
    w->fields++;
    key(w, name);
    put(w, v ? "true" : "false", v ? 4 : 5);
}

void hawser_json_text(hawser_json *w, const char *name, const char *v, size_t min, size_t max)
{
    size_t characters = 0;
    const char *p;
    w->fields++;
    if (v == NULL) {
        fail(w, HAWSER_RANGE);
        return;
    }
    for (p = v; *p != '\0'; p++)
        characters += ((unsigned char)*p & 0xc0) != 0x80; /* not the middle of one */
    if (characters < min || characters > max) {
        fail(w, HAWSER_RANGE);
        return;
    }
    key(w, name);
    put_string(w, v);
}

int hawser_json_end(hawser_json *w, size_t max_bytes)
{
    put(w, "}", 1);
    if (w->err == 0 && w->fields == 0)
        w->err = HAWSER_EMPTY;
    if (w->err == 0 && w->len > max_bytes)
        w->err = HAWSER_TOO_LONG;
    if (w->out != NULL && w->size > 0)
        w->out[w->err == 0 ? w->len : 0] = '\0';
    return w->err != 0 ? w->err : (int)w->len;
}
