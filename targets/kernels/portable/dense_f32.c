/* Matrix product with constant weights: two outputs at once, which share what they read. */
#include "mcugraph_conv.h"

static void pixel(const struct mcu_dense_f32 *p, const float *x, float *y)
{
    int32_t terms = p->inputs;
    for (int32_t c = 0; c < p->outputs; c += 2) {
        int32_t next = (c + 1 < p->outputs) ? c + 1 : c;
        const float *w0 = &p->weights[c * terms];
        const float *w1 = &p->weights[next * terms];
        float acc0 = p->bias[c];
        float acc1 = p->bias[next];
        for (int32_t k = 0; k < terms; k++) {
            acc0 += x[k] * w0[k];
            acc1 += x[k] * w1[k];
        }
        y[c] = mcu_clamp_f32(acc0, p->low, p->high);
        y[next] = mcu_clamp_f32(acc1, p->low, p->high);
    }
}

void mcu_dense_f32(const struct mcu_dense_f32 *p, const float *x, float *y, int32_t begin,
                  int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        int32_t slot = mcu_slot(row * p->stride_height, p->x_depth);
        const float *from = &x[slot * p->x_width * p->inputs];
        float *to = &y[mcu_slot(row, p->y_depth) * p->y_width * p->y_step];
        int32_t at = 0;
        for (int32_t i = 0; i < p->y_width; i++) {
            pixel(p, from, &to[at]);
            from += p->stride_width * p->inputs;
            at += p->y_step;
        }
    }
}
