/* Reductions along one axis: x is [outer][length][inner], y is [outer][inner], one output row. */
#ifndef MCUGRAPH_REDUCE_H
#define MCUGRAPH_REDUCE_H

#include "mcugraph.h"

enum mcu_reduce {
    MCU_SUM = 0,
    MCU_LARGEST = 1,
    MCU_SMALLEST = 2
};

/* y = saturate(requantize(sum of x - x_zero) + y_zero). */
struct mcu_sum_s8 {
    int32_t outer;
    int32_t length;
    int32_t inner;
    int32_t x_zero;
    int32_t y_zero;
    int32_t multiplier;
    int32_t shift;
};

/* y = table[the largest x + 128], or the smallest where sign is -1. */
struct mcu_extreme_s8 {
    int32_t outer;
    int32_t length;
    int32_t inner;
    int32_t sign;
    const int8_t *table;
};

/* y = factor * sum, or the largest, or the smallest; kind is an mcu_reduce. */
struct mcu_reduce_f32 {
    int32_t outer;
    int32_t length;
    int32_t inner;
    int32_t kind;
    float factor;
};

/* y = place of the largest x (sign 1) or the smallest (-1); the last one where last is 1. */
struct mcu_argmax_s8 {
    int32_t outer;
    int32_t length;
    int32_t inner;
    int32_t sign;
    int32_t last;
};

struct mcu_argmax_f32 {
    int32_t outer;
    int32_t length;
    int32_t inner;
    int32_t sign;
    int32_t last;
};

void mcu_sum_s8(const struct mcu_sum_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                int32_t end);
void mcu_extreme_s8(const struct mcu_extreme_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                    int32_t end);
void mcu_reduce_f32(const struct mcu_reduce_f32 *p, const float *x, float *y, int32_t begin,
                    int32_t end);
void mcu_argmax_s8(const struct mcu_argmax_s8 *p, const int8_t *x, int64_t *y, int32_t begin,
                   int32_t end);
void mcu_argmax_f32(const struct mcu_argmax_f32 *p, const float *x, int64_t *y, int32_t begin,
                    int32_t end);

#endif
