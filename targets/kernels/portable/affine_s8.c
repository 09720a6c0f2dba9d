#include "mcugraph_elementwise.h"

void mcu_affine_s8(const struct mcu_affine_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                   int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        const int8_t *in = &x[mcu_slot(row, p->x_depth) * p->row];
        int8_t *out = &y[mcu_slot(row, p->y_depth) * p->row];
        int32_t c = 0;
        for (int32_t i = 0; i < p->row; i++) {
            int32_t sum = p->multiplier[c] * in[i] + p->bias[c];
            sum += ((sum >> p->shift) ^ p->odd) & 1; /* bias holds half less one */
            out[i] = (int8_t)mcu_clamp(sum >> p->shift, p->low, p->high);
            c++;
            if (c == p->period) {
                c = 0;
            }
        }
    }
}
