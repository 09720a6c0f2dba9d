#include "mcugraph_pool.h"

static int32_t largest(const struct mcu_maxpool_s8 *p, const int8_t *x, int32_t offset,
                       struct mcu_taps rows, struct mcu_taps columns)
{
    const int32_t line = p->x_width * p->channels;
    const int32_t end = p->x_depth * line;
    const int32_t pixel = p->dilation_width * p->channels;
    int32_t found = -128;
    for (int32_t h = 0; h < rows.count; h++) {
        int32_t i = offset;
        for (int32_t w = 0; w < columns.count; w++) {
            if (x[i] > found) {
                found = x[i];
            }
            i += pixel;
        }
        offset += p->dilation_height * line;
        while (offset >= end) { /* the ring's end */
            offset -= end;
        }
    }
    return found;
}

static void pool_pixel(const struct mcu_maxpool_s8 *p, const int8_t *x, int8_t *y,
                       struct mcu_taps rows, struct mcu_taps columns)
{
    int32_t offset = mcu_slot(rows.first, p->x_depth) * p->x_width + columns.first;
    offset *= p->channels;
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t value = largest(p, x, offset + c, rows, columns);
        y[c] = (p->table != NULL) ? p->table[value + 128] : (int8_t)value;
    }
}

void mcu_maxpool_s8(const struct mcu_maxpool_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
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
