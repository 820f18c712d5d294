/* Aria Thermostat: what the declaration (version 3) lets a unit send. Set the
 * values that there are, say so in `have`, and publish what the function
 * writes. What is not declared is dropped by the server, never stored, and
 * counted; what is out of its range is refused there, and here before. */
#ifndef HAWSER_READINGS_H
#define HAWSER_READINGS_H

#include "hawser_json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Stream climate: one message every 1m in the long run, 10 at once, at most
 * 512 bytes. A bad field is dropped, the rest is kept. */
#define HAWSER_STREAM_CLIMATE_TOPIC "telemetry/climate"
#define HAWSER_STREAM_CLIMATE_EVERY_MS 60000
#define HAWSER_STREAM_CLIMATE_MAX_BYTES 512

typedef struct {
    bool heating_on; /* heating_on: boolean; Whether the heating is on. */
    double room_temperature; /* room_temperature: number, Cel, -40.0 to 85.0, rounded to 0.1; How warm the room is. */
    struct {
        bool heating_on;
        bool room_temperature;
    } have;
} hawser_reading_climate;

/* Writes one message; gives its length or one of the codes of hawser_json.h. */
int hawser_write_climate(char *out, size_t size, const hawser_reading_climate *r, const hawser_stamp *stamp);

/* Values that may be sent, to begin with. */
hawser_reading_climate hawser_example_climate(void);

/* All streams, for a sketch that sends one example to each. */
typedef struct {
    const char *name, *topic;
    uint32_t every_ms;
    int (*example)(char *out, size_t size, const hawser_stamp *stamp);
} hawser_stream;

extern const hawser_stream hawser_streams[];
#define HAWSER_STREAMS 1

#ifdef __cplusplus
}
#endif
#endif
