#include "mcugraph_reduce.h"

static int8_t sum_line(const struct mcu_sum_s8 *p, const int8_t *x)
{
    int32_t sum = -p->length * p->x_zero;
    for (int32_t i = 0; i < p->length; i++) {
        sum += x[i * p->inner];
    }
    sum = mcu_requantize(sum, p->multiplier, p->shift) + p->y_zero;
    return (int8_t)mcu_clamp(sum, -128, 127);
}

void mcu_sum_s8(const struct mcu_sum_s8 *p, const int8_t *x, int8_t *y, int32_t begin, int32_t end)
{
    const int32_t block = p->length * p->inner;
    const int32_t outer = (begin < end) ? p->outer : 0;
    for (int32_t o = 0; o < outer; o++) {
        for (int32_t i = 0; i < p->inner; i++) {
            y[o * p->inner + i] = sum_line(p, &x[o * block + i]);
        }
    }
}
