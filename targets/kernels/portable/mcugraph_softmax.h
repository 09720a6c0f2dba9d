/* Softmax along one axis. */
#ifndef MCUGRAPH_SOFTMAX_H
#define MCUGRAPH_SOFTMAX_H

#include "mcugraph.h"

/*
 * A row is [outer][length][inner]; the sum runs along length. table[d] is exp(-d * x_scale) in
 * fixed point, so small that three times the sum of `length` entries stays within 32 bits.
 * y = clamp(round(factor * table[max - x] / sum) + y_zero), ties to even; top is the highest
 * power of two that is not above factor.
 */
struct mcu_softmax_s8 {
    int32_t outer;
    int32_t length;
    int32_t inner;
    int32_t x_depth;
    int32_t y_depth;
    const uint32_t *table;
    int32_t factor;
    int32_t top;
    int32_t y_zero;
};

void mcu_softmax_s8(const struct mcu_softmax_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                    int32_t end);

/* y = exp(x - max) / sum of the same, or its logarithm. A row is [outer][length][inner]. */
struct mcu_softmax_f32 {
    int32_t outer;
    int32_t length;
    int32_t inner;
    int32_t x_depth;
    int32_t y_depth;
    int32_t logarithm;
};

void mcu_softmax_f32(const struct mcu_softmax_f32 *p, const float *x, float *y, int32_t begin,
                     int32_t end);

#endif
