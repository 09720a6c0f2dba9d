/* Product of two matrices that are computed at run time. */
#include "mcugraph_conv.h"

static int32_t product(const struct mcu_matmul_s8 *p, const int8_t *x, const int8_t *x2)
{
    int32_t sum = 0;
    MCU_ROLLED
    for (int32_t k = 0; k < p->inputs; k++) {
        sum += (x[k] - p->x_zero) * (x2[k * p->outputs] - p->x2_zero);
    }
    return sum;
}

void mcu_matmul_s8(const struct mcu_matmul_s8 *p, const int8_t *x, const int8_t *x2, int8_t *y,
                   int32_t begin, int32_t end)
{
    int32_t matrix = 0;
    int32_t next = p->rows; /* the first row of the next matrix */
    for (int32_t row = begin; row < end; row++) {
        const int8_t *from = &x[mcu_slot(row, p->x_depth) * p->inputs];
        int8_t *to = &y[mcu_slot(row, p->y_depth) * p->outputs];
        while (row >= next) {
            next += p->rows;
            matrix += p->x2_step;
        }
        for (int32_t c = 0; c < p->outputs; c++) {
            int32_t acc = product(p, from, &x2[matrix + c]);
            acc = mcu_requantize(acc, p->multiplier, p->shift) + p->y_zero;
            to[c] = (int8_t)mcu_clamp(acc, p->low, p->high);
        }
    }
}
