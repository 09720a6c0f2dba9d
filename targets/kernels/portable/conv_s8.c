/* Convolution: the patch under the kernel is gathered, then multiplied. */
#include "mcugraph_conv.h"
#include "mcugraph_dot.h"

static MCU_NOINLINE int8_t *copy(int8_t *to, const int8_t *from, int32_t count)
{
    MCU_ROLLED
    while (count >= 4) {
        to[0] = from[0];
        to[1] = from[1];
        to[2] = from[2];
        to[3] = from[3];
        to += 4;
        from += 4;
        count -= 4;
    }
    MCU_ROLLED
    while (count > 0) {
        *to = *from;
        to++;
        from++;
        count--;
    }
    return to;
}

static int8_t *fill(int8_t *to, int32_t value, int32_t count)
{
    MCU_ROLLED
    while (count > 0) {
        *to = (int8_t)value;
        to++;
        count--;
    }
    return to;
}

/* count neighbouring pixels from column left of input row src; NULL is a row of padding */
static int8_t *gather_pixels(const struct mcu_conv_s8 *p, const int8_t *src, int8_t *to,
                             int32_t left, int32_t count)
{
    int32_t first = (src == NULL) ? count : mcu_clamp(-left, 0, count);
    int32_t last = mcu_clamp(p->x_width - left, first, count);
    to = fill(to, p->x_zero, first * p->group_inputs);
    if (last > first) {
        to = copy(to, &src[(left + first) * p->x_channels], (last - first) * p->group_inputs);
    }
    return fill(to, p->x_zero, (count - last) * p->group_inputs);
}

static int8_t *gather_row(const struct mcu_conv_s8 *p, const int8_t *src, int8_t *to, int32_t left)
{
    if ((p->dilation_width == 1) && (p->groups == 1)) {
        return gather_pixels(p, src, to, left, p->kernel_width);
    }
    for (int32_t kx = 0; kx < p->kernel_width; kx++) {
        to = gather_pixels(p, src, to, left, 1);
        left += p->dilation_width;
    }
    return to;
}

static void gather(const struct mcu_conv_s8 *p, const int8_t *x, int8_t *patch, int32_t top,
                   int32_t left)
{
    int32_t row = top;
    for (int32_t ky = 0; ky < p->kernel_height; ky++) {
        const int8_t *src = NULL;
        if ((row >= 0) && (row < p->x_height)) {
            src = &x[mcu_slot(row, p->x_depth) * p->x_width * p->x_channels];
        }
        patch = gather_row(p, src, patch, left);
        row += p->dilation_height;
    }
}

void mcu_conv_s8(const struct mcu_conv_s8 *p, const int8_t *x, int8_t *y, void *scratch,
                 int32_t begin, int32_t end)
{
    int8_t *patch = scratch;
    int32_t depth = p->group_inputs;
    int32_t terms = p->kernel_height * p->kernel_width * depth;
    int32_t outputs = p->group_outputs;
    int32_t step = terms * ((outputs + 3) & ~(int32_t)3);
    const struct mcu_outputs_s8 scaling = {p->bias,   p->multiplier, p->shift, p->scale_mask,
                                           p->y_zero, p->low,        p->high};
    for (int32_t oy = begin; oy < end; oy++) {
        int32_t top = oy * p->stride_height - p->pad_top;
        int32_t left = -p->pad_left;
        int32_t at = 0;
        int8_t *to = &y[mcu_slot(oy, p->y_depth) * p->y_width * p->y_step];
        for (int32_t ox = 0; ox < p->y_width; ox++) {
            for (int32_t g = 0; g < p->groups; g++) {
                gather(p, &x[g * depth], patch, top, left);
                mcu_pixel_s8(&scaling, patch, &p->weights[g * step], terms, &to[at],
                             g * outputs, (g + 1) * outputs);
            }
            at += p->y_step;
            left += p->stride_width;
        }
    }
}
