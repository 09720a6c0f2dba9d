#include "mcugraph_unary.h"

void mcu_map_s8(const struct mcu_map_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                int32_t end)
{
    const int8_t *table = &p->table[128];
    for (int32_t row = begin; row < end; row++) {
        const int8_t *in = &x[mcu_slot(row, p->x_depth) * p->row];
        int8_t *out = &y[mcu_slot(row, p->y_depth) * p->row];
        for (int32_t i = 0; i < p->row; i++) {
            out[i] = table[in[i]];
        }
    }
}
