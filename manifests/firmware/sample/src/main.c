/* Paints patterns into a frame buffer. The start-up code lies in platform/start.S. */
#include "pattern.h"

static struct frame frame;

/* What the device answers as its build; found in the image by whoever looks for it. */
const char build_signature[] __attribute__((used)) = "BUILD_SIG:" BUILD_COMMIT;

int main(void) {
    for (uint32_t tick = 0;; tick++) {
        paint(&frame, tick);
        show(&frame);
    }
}
