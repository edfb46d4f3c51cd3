/* What a compiler may call without being asked to: there is no library here. */
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    char *at = to;
    for (const char *next = from; size; size--) {
        *at++ = *next++;
    }
    return to;
}

void *memset(void *to, int value, size_t size) {
    for (char *at = to; size; size--) {
        *at++ = (char)value;
    }
    return to;
}
