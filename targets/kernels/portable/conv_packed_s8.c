/* Convolution with weights of few values: those of four outputs are unpacked once for a row. */
#include "mcugraph_dot.h"
#include "mcugraph_packed.h"
#include "mcugraph_unpack.h"

#define MCU_WINDOW struct mcu_conv_packed_s8
#include "mcugraph_gather.h"

/* Row oy of all outputs of a group, x from its first channel on; returns the next group's weights */
static const uint8_t *group_row(const struct mcu_conv_packed_s8 *p, const int8_t *x, int8_t *y,
                                const uint8_t *w, int32_t group, int32_t oy, int8_t *patch)
{
    const struct mcu_outputs_s8 scaling = {p->bias,   p->multiplier, p->shift, p->scale_mask,
                                           p->y_zero, p->low,        p->high};
    int32_t terms = p->kernel_height * p->kernel_width * p->group_inputs;
    int32_t top = oy * p->stride_height - p->pad_top;
    int32_t first = group * p->group_outputs;
    int32_t last = first + p->group_outputs;
    uint8_t *unpacked = (uint8_t *)&patch[terms];
    while (first < last) {
        int32_t next = (last - first > 4) ? first + 4 : last;
        int32_t left = -p->pad_left;
        int32_t at = 0;
        w = mcu_unpack(w, p->values, p->bits, unpacked, terms);
        for (int32_t ox = 0; ox < p->y_width; ox++) {
            gather(p, x, patch, top, left);
            mcu_pixel_s8(&scaling, patch, unpacked, terms, &y[at], first, next);
            at += p->y_step;
            left += p->stride_width;
        }
        first = next;
    }
    return w;
}

void mcu_conv_packed_s8(const struct mcu_conv_packed_s8 *p, const int8_t *x, int8_t *y,
                        void *scratch, int32_t begin, int32_t end)
{
    for (int32_t oy = begin; oy < end; oy++) {
        int8_t *to = &y[mcu_slot(oy, p->y_depth) * p->y_width * p->y_step];
        const uint8_t *w = p->weights;
        for (int32_t g = 0; g < p->groups; g++) {
            w = group_row(p, &x[g * p->group_inputs], to, w, g, oy, scratch);
        }
    }
}
