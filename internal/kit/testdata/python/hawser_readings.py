# Aria Thermostat: what its declaration (version 3) lets a unit send.
# Each function makes the values of one message of one stream; put the real ones
# in. A field that you leave out is not sent. What is not declared is dropped by
# the server, never stored, and counted; what is out of its range is refused.


def climate():
    # To telemetry/climate: one message every 1m in the long run, 10 at
    # once, at most 512 bytes. A bad field is dropped, the rest is kept.
    return {
        "heating_on": True,  # boolean; Whether the heating is on.
        "room_temperature": 22.5,  # number, Cel, -40.0 to 85.0, rounded to 0.1; How warm the room is.
    }


# The function of each stream, by the stream's name.
STREAMS = {
    "climate": climate,
}
