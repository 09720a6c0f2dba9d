/* Matrix product with constant weights. */
#include "mcugraph_conv.h"
#include "mcugraph_dot.h"

void mcu_dense_s8(const struct mcu_dense_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                  int32_t end)
{
    const struct mcu_outputs_s8 outputs = {p->bias,   p->multiplier, p->shift, p->scale_mask,
                                           p->y_zero, p->low,        p->high};
    for (int32_t row = begin; row < end; row++) {
        int32_t slot = mcu_slot(row * p->stride_height, p->x_depth);
        const int8_t *from = &x[slot * p->x_width * p->inputs];
        int8_t *to = &y[mcu_slot(row, p->y_depth) * p->y_width * p->y_step];
        int32_t at = 0;
        for (int32_t i = 0; i < p->y_width; i++) {
            mcu_pixel_s8(&outputs, from, p->weights, p->inputs, &to[at], 0, p->outputs);
            from += p->stride_width * p->inputs;
            at += p->y_step;
        }
    }
}
