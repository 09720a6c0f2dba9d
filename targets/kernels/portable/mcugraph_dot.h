/* The inner loop of convolutions and dense layers: four outputs share what they read. */
#ifndef MCUGRAPH_DOT_H
#define MCUGRAPH_DOT_H

#include "mcugraph.h"

/* What turns sums into outputs: the members of the same names in a kernel's parameters. */
struct mcu_outputs_s8 {
    const int32_t *bias;
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t scale_mask;
    int32_t y_zero;
    int32_t low;
    int32_t high;
};

/* sums[j] += sum of x[k] * w[k][j] */
static MCU_NOINLINE void mcu_dot_s8(const int8_t *x, const uint8_t *w, int32_t terms, int32_t sums[4])
{
    int32_t a0 = sums[0];
    int32_t a1 = sums[1];
    int32_t a2 = sums[2];
    int32_t a3 = sums[3];
    const int8_t *end = &x[terms];
    const int8_t *blocks = &x[terms & ~(int32_t)3];
    MCU_ROLLED
    while (x != blocks) {
        int32_t v = x[0];
        a0 += v * w[0];
        a1 += v * w[1];
        a2 += v * w[2];
        a3 += v * w[3];
        v = x[1];
        a0 += v * w[4];
        a1 += v * w[5];
        a2 += v * w[6];
        a3 += v * w[7];
        v = x[2];
        a0 += v * w[8];
        a1 += v * w[9];
        a2 += v * w[10];
        a3 += v * w[11];
        v = x[3];
        a0 += v * w[12];
        a1 += v * w[13];
        a2 += v * w[14];
        a3 += v * w[15];
        x += 4;
        w += 16;
    }
    MCU_ROLLED
    while (x != end) {
        int32_t v = *x;
        a0 += v * w[0];
        a1 += v * w[1];
        a2 += v * w[2];
        a3 += v * w[3];
        x++;
        w += 4;
    }
    sums[0] = a0;
    sums[1] = a1;
    sums[2] = a2;
    sums[3] = a3;
}

static MCU_NOINLINE int32_t mcu_sum_s8(const int8_t *x, int32_t terms)
{
    int32_t sum = 0;
    const int8_t *end = &x[terms];
    const int8_t *blocks = &x[terms & ~(int32_t)3];
    MCU_ROLLED
    while (x != blocks) {
        sum += x[0];
        sum += x[1];
        sum += x[2];
        sum += x[3];
        x += 4;
    }
    MCU_ROLLED
    while (x != end) {
        sum += *x;
        x++;
    }
    return sum;
}

/* y[c] for first <= c < last from sums[c - first] */
static MCU_NOINLINE void mcu_store_s8(const struct mcu_outputs_s8 *p, const int32_t *sums,
                                      int8_t *y, int32_t first, int32_t last)
{
    MCU_ROLLED
    for (int32_t c = first; c < last; c++) {
        int32_t scale = c & p->scale_mask;
        int32_t acc = *sums + p->bias[c];
        acc = mcu_requantize(acc, p->multiplier[scale], p->shift[scale]) + p->y_zero;
        y[c] = (int8_t)mcu_clamp(acc, p->low, p->high);
        sums++;
    }
}

/*
 * y[first .. last - 1] of one pixel; weights [ceil(outputs / 4)][terms][4] hold w + 128: ARMv6-M
 * loads only unsigned bytes in one instruction. 128 * sum(x) is taken off again.
 */
static inline void mcu_pixel_s8(const struct mcu_outputs_s8 *p, const int8_t *x, const uint8_t *w,
                                int32_t terms, int8_t *y, int32_t first, int32_t last)
{
    int32_t start = mcu_sum_s8(x, terms) * -128;
    while (first < last) {
        int32_t sums[4] = {start, start, start, start};
        int32_t next = (last - first > 4) ? first + 4 : last;
        mcu_dot_s8(x, w, terms, sums);
        mcu_store_s8(p, sums, y, first, next);
        w += 4 * terms;
        first = next;
    }
}

#endif
