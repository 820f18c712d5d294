/* Made by `hawser device kit` from the declaration of Aria Thermostat. */
#include "hawser_readings.h"

int hawser_write_climate(char *out, size_t size, const hawser_reading_climate *r, const hawser_stamp *stamp)
{
    hawser_json w;
    hawser_json_begin(&w, out, size, stamp);
    if (r->have.heating_on) {
        hawser_json_boolean(&w, "heating_on", r->heating_on);
    }
    if (r->have.room_temperature) {
        hawser_json_number(&w, "room_temperature", r->room_temperature, -40.0, 85.0, 1);
    }
    return hawser_json_end(&w, HAWSER_STREAM_CLIMATE_MAX_BYTES);
}

hawser_reading_climate hawser_example_climate(void)
{
    static const hawser_reading_climate nothing;
    hawser_reading_climate r = nothing;
    r.heating_on = true;
    r.have.heating_on = true;
    r.room_temperature = 22.5;
    r.have.room_temperature = true;
    return r;
}

static int example_climate(char *out, size_t size, const hawser_stamp *stamp)
{
    hawser_reading_climate r = hawser_example_climate();
    return hawser_write_climate(out, size, &r, stamp);
}

const hawser_stream hawser_streams[] = {
    { "climate", HAWSER_STREAM_CLIMATE_TOPIC, HAWSER_STREAM_CLIMATE_EVERY_MS, example_climate },
};
