#include "mcugraph_binary.h"

static void line(const struct mcu_binary_f32 *p, const float *a, const float *b, float *y)
{
    for (int32_t c = 0; c < p->channels; c++) {
        float value = mcu_apply(p->kind, a[c * p->a_channel], b[c * p->b_channel]);
        if (value < p->low) {
            value = p->low;
        }
        if (value > p->high) {
            value = p->high;
        }
        y[c] = value;
    }
}

void mcu_binary_f32(const struct mcu_binary_f32 *p, const float *a, const float *b, float *y,
                    int32_t begin, int32_t end)
{
    const int32_t y_row = p->width * p->y_step;
    for (int32_t row = begin; row < end; row++) {
        int32_t i = mcu_slot(row, p->a_depth) * p->a_row;
        int32_t j = mcu_slot(row, p->b_depth) * p->b_row;
        int32_t k = mcu_slot(row, p->y_depth) * y_row;
        for (int32_t w = 0; w < p->width; w++) {
            line(p, &a[i], &b[j], &y[k]);
            i += p->a_pixel;
            j += p->b_pixel;
            k += p->y_step;
        }
    }
}
