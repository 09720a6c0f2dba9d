#include "mcugraph_movement.h"

/* Steps to the next block like an odometer, and returns its place. */
static int32_t next_place(const struct mcu_permute *p, int32_t *at, int32_t place)
{
    for (int32_t i = p->loops - 1; i >= 0; i--) {
        at[i]++;
        place += p->steps[i];
        if (at[i] < p->counts[i]) {
            break;
        }
        place -= p->counts[i] * p->steps[i];
        at[i] = 0;
    }
    return place;
}

void mcu_permute(const struct mcu_permute *p, const void *x, void *y, int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        const int8_t *in = (const int8_t *)x + mcu_slot(row + p->x_first, p->x_depth) * p->x_row;
        int8_t *out = (int8_t *)y + mcu_slot(row, p->y_depth) * p->y_row;
        int32_t at[MCU_LOOPS] = {0};
        int32_t place = p->x_offset;
        for (int32_t i = 0; i < p->y_row; i += p->block) {
            mcu_move(&in[place], &out[i], p->block, p->table);
            place = next_place(p, at, place);
        }
    }
}
