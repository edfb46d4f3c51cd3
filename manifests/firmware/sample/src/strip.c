#include "pattern.h"

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
