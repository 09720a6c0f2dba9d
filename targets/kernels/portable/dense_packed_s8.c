/* Matrix product with constant weights of few values, unpacked once for all pixels of a row. */
#include "mcugraph_dot.h"
#include "mcugraph_packed.h"
#include "mcugraph_unpack.h"

/* starts[i]: what takes the 128 off that is added to every weight, for each pixel of a row */
static void begin_row(const struct mcu_dense_packed_s8 *p, const int8_t *x, int32_t *starts)
{
    int32_t step = p->stride_width * p->inputs;
    for (int32_t i = 0; i < p->y_width; i++) {
        starts[i] = mcu_sum_s8(x, p->inputs) * -128;
        x += step;
    }
}

/* sums[i][4] of four outputs for each pixel; returns where the next outputs' weights begin */
static const uint8_t *sum_up(const struct mcu_dense_packed_s8 *p, const int8_t *x, const uint8_t *w,
                             int32_t *sums)
{
    uint8_t *unpacked = (uint8_t *)&sums[4 * p->y_width];
    int32_t step = p->stride_width * p->inputs;
    int32_t left = p->inputs;
    while (left > 0) {
        int32_t terms = (left < p->chunk) ? left : p->chunk;
        const int8_t *from = x;
        w = mcu_unpack(w, p->values, p->bits, unpacked, terms);
        for (int32_t i = 0; i < p->y_width; i++) {
            mcu_dot_s8(from, unpacked, terms, &sums[4 * i]);
            from += step;
        }
        x += terms;
        left -= terms;
    }
    return w;
}

static void row(const struct mcu_dense_packed_s8 *p, const int8_t *x, int8_t *y, int32_t *scratch)
{
    const struct mcu_outputs_s8 outputs = {p->bias,   p->multiplier, p->shift, p->scale_mask,
                                           p->y_zero, p->low,        p->high};
    const uint8_t *w = p->weights;
    int32_t *sums = &scratch[p->y_width];
    begin_row(p, x, scratch);
    for (int32_t first = 0; first < p->outputs; first += 4) {
        int32_t next = (p->outputs - first > 4) ? first + 4 : p->outputs;
        int32_t at = 0;
        for (int32_t i = 0; i < 4 * p->y_width; i++) {
            sums[i] = scratch[i >> 2];
        }
        w = sum_up(p, x, w, sums);
        for (int32_t i = 0; i < p->y_width; i++) {
            mcu_store_s8(&outputs, &sums[4 * i], &y[at], first, next);
            at += p->y_step;
        }
    }
}

void mcu_dense_packed_s8(const struct mcu_dense_packed_s8 *p, const int8_t *x, int8_t *y,
                         void *scratch, int32_t begin, int32_t end)
{
    for (int32_t r = begin; r < end; r++) {
        const int8_t *from = &x[mcu_slot(r * p->stride_height, p->x_depth) * p->x_width * p->inputs];
        row(p, from, &y[mcu_slot(r, p->y_depth) * p->y_width * p->y_step], scratch);
    }
}
