/* Product of two matrices that are computed at run time. */
#include "mcugraph_conv.h"

static float product(const struct mcu_matmul_f32 *p, const float *x, const float *x2)
{
    float sum = 0.0f;
    for (int32_t k = 0; k < p->inputs; k++) {
        sum += x[k] * x2[k * p->outputs];
    }
    return sum;
}

void mcu_matmul_f32(const struct mcu_matmul_f32 *p, const float *x, const float *x2, float *y,
                    int32_t begin, int32_t end)
{
    int32_t matrix = 0;
    int32_t next = p->rows; /* the first row of the next matrix */
    for (int32_t row = begin; row < end; row++) {
        const float *from = &x[mcu_slot(row, p->x_depth) * p->inputs];
        float *to = &y[mcu_slot(row, p->y_depth) * p->outputs];
        while (row >= next) {
            next += p->rows;
            matrix += p->x2_step;
        }
        for (int32_t c = 0; c < p->outputs; c++) {
            to[c] = mcu_clamp_f32(product(p, from, &x2[matrix + c]), p->low, p->high);
        }
    }
}
