#include "mcugraph_movement.h"

/* Repeats the filling element; size is 1, 2 or 4 bytes and divides count. */
static void fill(const struct mcu_take *p, int8_t *y, int32_t count)
{
    int32_t byte = 0;
    for (int32_t i = 0; i < count; i++) {
        y[i] = (int8_t)(uint8_t)(((uint32_t)p->fill >> (8 * byte)) & 0xFFu);
        byte++;
        if (byte == p->size) {
            byte = 0;
        }
    }
}

void mcu_take(const struct mcu_take *p, const void *x, void *y, int32_t begin, int32_t end)
{
    const int32_t pixel = p->y_before + p->block + p->y_after;
    for (int32_t row = begin; row < end; row++) {
        const int32_t source = p->rows[row];
        int8_t *out = (int8_t *)y + mcu_slot(row, p->y_depth) * p->y_width * p->y_step;
        const int8_t *in = NULL;
        if (source >= 0) {
            in = (const int8_t *)x + mcu_slot(source, p->x_depth) * p->x_row;
        }
        for (int32_t w = 0; w < p->y_width; w++) {
            int8_t *to = &out[w * p->y_step];
            if ((in == NULL) || (p->columns[w] < 0)) {
                fill(p, to, pixel);
            } else {
                fill(p, to, p->y_before);
                mcu_move(&in[p->columns[w] * p->block], &to[p->y_before], p->block, p->table);
                fill(p, &to[p->y_before + p->block], p->y_after);
            }
        }
    }
}
