#include "mcugraph_movement.h"

void mcu_concat(const struct mcu_concat *p, const void *x, void *y, int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        int32_t source = row - p->y_first;
        if ((source >= 0) && (source < p->x_rows)) {
            const int8_t *in = (const int8_t *)x + mcu_slot(source, p->x_depth) * p->x_row;
            int8_t *out = (int8_t *)y + mcu_slot(row, p->y_depth) * p->y_row + p->y_offset;
            for (int32_t i = 0; i < p->blocks; i++) {
                mcu_move(&in[i * p->block], &out[i * p->y_step], p->block, p->table);
            }
        }
    }
}
