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

/* The output register of GPIO 8, the strip's data line on both boards. */
void show(const struct frame *frame) {
    volatile uint32_t *const output = (volatile uint32_t *)0x60004004u;
    for (uint32_t led = 0; led < LEDS; led++) {
        uint32_t bits = ((uint32_t)frame->leds[led].green << 16) | ((uint32_t)frame->leds[led].red << 8) |
                        frame->leds[led].blue;
        for (int bit = 23; bit >= 0; bit--) {
            *output = ((bits >> bit) & 1u) << 8;
        }
    }
}
