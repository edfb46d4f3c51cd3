#pragma once
#include <stdint.h>

#ifndef LEDS
#define LEDS 144
#endif

struct colour { uint8_t red, green, blue; };
struct frame { struct colour leds[LEDS]; };

void paint(struct frame *frame, uint32_t tick);
void show(const struct frame *frame);
