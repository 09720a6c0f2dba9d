#include "mcugraph_pool.h"

/* The mean with its zero point; decides a tie by the table. */
static int32_t mean(const struct mcu_gap_s8 *p, int32_t sum)
{
    int32_t value = mcu_requantize(sum, p->multiplier, p->shift);
    if (p->ties != NULL) {
        int32_t rest = 2 * (sum * p->scale_up - value * p->scale_down);
        int32_t place = value + p->y_zero + 128;
        if (rest == -p->scale_down) {
            place--;
        }
        if (((rest == p->scale_down) || (rest == -p->scale_down)) && (place >= 0) &&
            (place < 256)) {
            value = place - p->y_zero - 128;
            value += (int32_t)((p->ties[place >> 5] >> (place & 31)) & 1u);
        }
    }
    return value + p->y_zero;
}

static int32_t channel_sum(const struct mcu_gap_s8 *p, const int8_t *x)
{
    int32_t sum = 0;
    for (int32_t k = 0; k < p->x_width; k++) {
        sum += *x;
        x += p->channels;
    }
    return sum;
}

void mcu_gap_s8(const struct mcu_gap_s8 *p, const int8_t *x, int8_t *y, void *scratch,
                int32_t begin, int32_t end)
{
    int32_t *sums = scratch;
    for (int32_t row = begin; row < end; row++) {
        const int8_t *from = &x[mcu_slot(row, p->x_depth) * p->x_width * p->channels];
        for (int32_t c = 0; c < p->channels; c++) {
            int32_t before = (row == 0) ? -(p->x_height * p->x_width * p->x_zero) : sums[c];
            sums[c] = before + channel_sum(p, &from[c]);
        }
    }
    if (end == p->x_height) {
        for (int32_t c = 0; c < p->channels; c++) {
            y[c] = (int8_t)mcu_clamp(mean(p, sums[c]), p->low, p->high);
        }
    }
}
