#include "mcugraph_quantize.h"

void mcu_dequantize_s8_f32(const struct mcu_dequantize_s8_f32 *p, const int8_t *x, float *y,
                           int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        const int8_t *in = &x[mcu_slot(row, p->x_depth) * p->row];
        float *out = &y[mcu_slot(row, p->y_depth) * p->row];
        for (int32_t i = 0; i < p->row; i++) {
            out[i] = p->scale * (float)(in[i] - p->zero);
        }
    }
}
