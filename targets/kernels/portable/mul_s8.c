#include "mcugraph_elementwise.h"

/* Moves a tie, which has gone to an even value, to the odd one next to it. */
static int32_t to_odd(const struct mcu_mul_s8 *p, int32_t product, int32_t value)
{
    int32_t rest = 2 * (product * p->scale_up - value * p->scale_down);
    if (rest == p->scale_down) {
        value++;
    } else if (rest == -p->scale_down) {
        value--;
    } else {
        /* no tie */
    }
    return value;
}

static void mul_line(const struct mcu_mul_s8 *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    int32_t i = 0;
    int32_t j = 0;
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t product = (a[i] - p->a_zero) * (b[j] - p->b_zero);
        int32_t value = mcu_requantize(product, p->multiplier, p->shift);
        if (p->scale_down != 0) {
            value = to_odd(p, product, value);
        }
        y[c] = (int8_t)mcu_clamp(value + p->y_zero, p->low, p->high);
        i += p->a_channel;
        j += p->b_channel;
    }
}

void mcu_mul_s8(const struct mcu_mul_s8 *p, const int8_t *a, const int8_t *b, int8_t *y,
                int32_t begin, int32_t end)
{
    const int32_t y_row = p->width * p->y_step;
    for (int32_t row = begin; row < end; row++) {
        int32_t i = mcu_slot(row, p->a_depth) * p->a_row;
        int32_t j = mcu_slot(row, p->b_depth) * p->b_row;
        int32_t k = mcu_slot(row, p->y_depth) * y_row;
        for (int32_t w = 0; w < p->width; w++) {
            mul_line(p, &a[i], &b[j], &y[k]);
            i += p->a_pixel;
            j += p->b_pixel;
            k += p->y_step;
        }
    }
}
