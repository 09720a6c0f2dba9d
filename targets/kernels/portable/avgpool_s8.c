#include "mcugraph_pool.h"

static void pool_pixel(const struct mcu_avgpool_s8 *p, const int8_t *x, int8_t *y,
                       struct mcu_taps rows, struct mcu_taps columns)
{
    const int32_t line = p->x_width * p->channels;
    const int32_t row = p->dilation_height * line;
    const int32_t end = p->x_depth * line;
    const int32_t pixel = p->dilation_width * p->channels;
    const int32_t taps = rows.count * columns.count;
    const int32_t entry = (p->counted != 0) ? taps : 0;
    const int32_t multiplier = p->multiplier[entry];
    const int32_t shift = p->shift[entry];
    const int32_t zero = taps * p->x_zero;
    int32_t offset = mcu_slot(rows.first, p->x_depth) * line + columns.first * p->channels;
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t sum = mcu_pool_sum(x, offset, row, end, pixel, rows, columns) - zero;
        int32_t value = mcu_requantize(sum, multiplier, shift) + p->y_zero;
        y[c] = (int8_t)mcu_clamp(value, p->low, p->high);
        offset++;
    }
}

void mcu_avgpool_s8(const struct mcu_avgpool_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                    int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        struct mcu_taps rows = mcu_taps(row * p->stride_height - p->pad_top, p->kernel_height,
                                        p->dilation_height, p->x_height);
        int8_t *out = &y[mcu_slot(row, p->y_depth) * p->y_width * p->y_step];
        int32_t left = -p->pad_left;
        for (int32_t w = 0; w < p->y_width; w++) {
            pool_pixel(p, x, &out[w * p->y_step], rows,
                       mcu_taps(left, p->kernel_width, p->dilation_width, p->x_width));
            left += p->stride_width;
        }
    }
}
