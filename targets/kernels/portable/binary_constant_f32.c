#include "mcugraph_binary.h"

static float apply(const struct mcu_binary_constant_f32 *p, float x, float constant)
{
    float value = (p->reversed != 0) ? mcu_apply(p->kind, constant, x)
                                     : mcu_apply(p->kind, x, constant);
    if (value < p->low) {
        value = p->low;
    }
    return (value > p->high) ? p->high : value;
}

void mcu_binary_constant_f32(const struct mcu_binary_constant_f32 *p, const float *x, float *y,
                             int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        const float *in = &x[mcu_slot(row, p->x_depth) * p->row];
        float *out = &y[mcu_slot(row, p->y_depth) * p->row];
        int32_t c = 0;
        for (int32_t i = 0; i < p->row; i++) {
            out[i] = apply(p, in[i], p->constant[c]);
            c++;
            if (c == p->period) {
                c = 0;
            }
        }
    }
}
