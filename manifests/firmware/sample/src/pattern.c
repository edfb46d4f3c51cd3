#include "pattern.h"

/* A wave that runs along the strip: a parabola per half period, so that no sine table is needed. */
static uint8_t wave(uint32_t phase) {
    uint32_t at = phase & 255u;
    uint32_t height = at < 128u ? at : 255u - at;
    return (uint8_t)((height * (255u - height)) >> 6);
}

void paint(struct frame *frame, uint32_t tick) {
    for (uint32_t led = 0; led < LEDS; led++) {
        struct colour *colour = &frame->leds[led];
        colour->red = wave(tick + led * 3u);
        colour->green = wave(tick * 2u + led * 5u);
        colour->blue = wave(255u - tick + led);
    }
}
