#pragma once
#include <stdint.h>

#ifndef LEDS
#define LEDS 144
#endif

struct colour { uint8_t red, green, blue; };
struct frame { struct colour leds[LEDS]; };

/* What the device tells of the pattern that it shows. `frames` times LEDS colours lie at `first`; the code that paints
   them lies from `code` to `code_end`. Found in the image by whoever looks for it. */
struct pattern_description {
    char magic[8];
    char name[16];
    uint32_t leds, frames;
    const uint8_t *first;
    const void *code, *code_end;
};
#define PATTERN_MAGIC {'P', 'O', 'D', 'I', 'U', 'M', 'L', 'P'}
#define PATTERN_CODE __attribute__((section(".text.pattern")))
#define PATTERN_DESCRIPTION __attribute__((used, section(".rodata.pattern_description")))
extern const char _pattern_code[], _pattern_code_end[];

void paint(struct frame *frame, uint32_t tick);
void show(const struct frame *frame);
