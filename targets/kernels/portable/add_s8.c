#include "mcugraph_elementwise.h"

/* One line of channels: no product and no sum leaves 32 bits (checked by the compiler). */
static void add_line(const struct mcu_add_s8 *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    int32_t i = 0;
    int32_t j = 0;
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t sum = p->a_multiplier * a[i] + p->b_multiplier * b[j] + p->bias;
        sum += ((sum >> p->shift) ^ p->odd) & p->tied; /* with ties, bias holds half less one */
        y[c] = (int8_t)mcu_clamp(sum >> p->shift, p->low, p->high);
        i += p->a_channel;
        j += p->b_channel;
    }
}

/* The same without ties for operands of the same shape, so short that registers suffice.
   From the first to the last: y may start below a or b and overlap it. */
static void add_plain(const struct mcu_add_s8 *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    const int32_t a_multiplier = p->a_multiplier;
    const int32_t b_multiplier = p->b_multiplier;
    const int32_t bias = p->bias;
    const int32_t shift = p->shift;
    const int32_t low = p->low;
    const int32_t high = p->high;
    a += p->channels;
    b += p->channels;
    y += p->channels;
    for (int32_t c = -p->channels; c < 0; c++) {
        int32_t sum = (a_multiplier * a[c] + b_multiplier * b[c] + bias) >> shift;
        if (sum < low) {
            sum = low;
        }
        if (sum > high) {
            sum = high;
        }
        y[c] = (int8_t)sum;
    }
}

void mcu_add_s8(const struct mcu_add_s8 *p, const int8_t *a, const int8_t *b, int8_t *y,
                int32_t begin, int32_t end)
{
    const int32_t y_row = p->width * p->y_step;
    const int32_t plain = (p->tied == 0) && (p->a_channel == 1) && (p->b_channel == 1);
    for (int32_t row = begin; row < end; row++) {
        int32_t i = mcu_slot(row, p->a_depth) * p->a_row;
        int32_t j = mcu_slot(row, p->b_depth) * p->b_row;
        int32_t k = mcu_slot(row, p->y_depth) * y_row;
        for (int32_t w = 0; w < p->width; w++) {
            if (plain) {
                add_plain(p, &a[i], &b[j], &y[k]);
            } else {
                add_line(p, &a[i], &b[j], &y[k]);
            }
            i += p->a_pixel;
            j += p->b_pixel;
            k += p->y_step;
        }
    }
}
