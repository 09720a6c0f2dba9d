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

void mcu_gap_s8(const struct mcu_gap_s8 *p, const int8_t *x, int8_t *y, int32_t begin, int32_t end)
{
    const int32_t zero = p->pixels * p->x_zero;
    if (begin >= end) {
        return;
    }
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t sum = -zero;
        int32_t i = c;
        for (int32_t k = 0; k < p->pixels; k++) {
            sum += x[i];
            i += p->channels;
        }
        y[c] = (int8_t)mcu_clamp(mean(p, sum), p->low, p->high);
    }
}
