#include "mcugraph_pool.h"

static float sum_of(const struct mcu_avgpool_f32 *p, const float *x, int32_t offset,
                    struct mcu_taps rows, struct mcu_taps columns)
{
    const int32_t line = p->x_width * p->channels;
    const int32_t end = p->x_depth * line;
    float sum = 0.0f;
    for (int32_t h = 0; h < rows.count; h++) {
        int32_t i = offset;
        for (int32_t w = 0; w < columns.count; w++) {
            sum += x[i];
            i += p->dilation_width * p->channels;
        }
        offset += p->dilation_height * line;
        while (offset >= end) { /* the ring's end */
            offset -= end;
        }
    }
    return sum;
}

static void pool_pixel(const struct mcu_avgpool_f32 *p, const float *x, float *y,
                       struct mcu_taps rows, struct mcu_taps columns, int32_t divisor)
{
    int32_t offset = mcu_slot(rows.first, p->x_depth) * p->x_width + columns.first;
    offset *= p->channels;
    for (int32_t c = 0; c < p->channels; c++) {
        float value = sum_of(p, x, offset + c, rows, columns) / (float)divisor;
        if (value < p->low) {
            value = p->low;
        }
        if (value > p->high) {
            value = p->high;
        }
        y[c] = value;
    }
}

/* Taps inside the padded input, along one axis. */
static int32_t padded(int32_t first, int32_t count, int32_t step, int32_t size)
{
    int32_t last = first + (count - 1) * step;
    while (last >= size) {
        last -= step;
        count--;
    }
    return count;
}

void mcu_avgpool_f32(const struct mcu_avgpool_f32 *p, const float *x, float *y, int32_t begin,
                     int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        int32_t top = row * p->stride_height - p->pad_top;
        int32_t left = -p->pad_left;
        struct mcu_taps rows = mcu_taps(top, p->kernel_height, p->dilation_height, p->x_height);
        int32_t height = padded(top, p->kernel_height, p->dilation_height,
                                p->x_height + p->pad_bottom);
        float *out = &y[mcu_slot(row, p->y_depth) * p->y_width * p->y_step];
        for (int32_t w = 0; w < p->y_width; w++) {
            struct mcu_taps columns = mcu_taps(left, p->kernel_width, p->dilation_width,
                                               p->x_width);
            int32_t width = padded(left, p->kernel_width, p->dilation_width,
                                   p->x_width + p->pad_right);
            pool_pixel(p, x, &out[w * p->y_step], rows, columns,
                       (p->counted != 0) ? rows.count * columns.count : height * width);
            left += p->stride_width;
        }
    }
}
