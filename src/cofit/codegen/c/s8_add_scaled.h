#include "s8_scaled.h"

/* A sum in which y counts half: x is scaled to y's scale, the sum to the output's, each by SMMLA
   and ASR. Offsets are shifted as their input is: x by 23 bits, y by 19. */
typedef struct {
    int32_t x_offset, x_multiplier, x_round, x_shift;
    int32_t y_offset;
    int32_t multiplier, round, shift;
} s8_scaled_sum;

COFIT_SHARED void s8_add_scaled(const s8_scaled_sum *p, const int8_t *x, const int8_t *y,
                                int32_t count, int8_t *out)
{
    const s8_scaled_sum s = *p;
    const int8_t *const end = x + count;
    COFIT_UNROLL(2)
    while (x != end) {
        const uint32_t wide_x = ((uint32_t)*x++ << 23) + (uint32_t)s.x_offset;
        const uint32_t wide_y = ((uint32_t)*y++ << 19) + (uint32_t)s.y_offset;
        const int32_t scaled = cofit_smmla((int32_t)wide_x, s.x_multiplier, s.x_round) >> s.x_shift;
        *out++ = s8_settle(scaled + (int32_t)wide_y, s.multiplier, s.round, s.shift);
    }
}
